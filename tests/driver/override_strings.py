"""Override strings as a user may mistype them, and the property that each is composed and planned, or refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import strategies as st
from omegaconf import DictConfig

from loadgen.config.conf_folder import config_path
from loadgen.config.explain import explained
from loadgen.config.overrides import refuse
from loadgen.config.schema import GROUPS, KEYS
from loadgen.config.validate import validate, validate_cells
from loadgen.errors import NOTHING_STARTED, ConfigError
from loadgen.host.probe import Host
from loadgen.plan.plan import plan_run
from loadgen.sweep.compose_cache import Composed

ATOMS = (
    *("0", "1", "2", "-1", "1.5", "1e400", "nan", "-inf", "inf", "true", "null", "NULL", "???", "9" * 30, "0x10", "1_000"),
    *("uffd_wait", "shmem", "anon", "none", "trace", "remote", "file", "zram", "hit", "absent", "existing", "explicit"),
    *("=", "~", "+", ",", ":", "[", "]", "{", "}", "(", ")", "'", '"', "\\", "$", "${", "${vcpus}", "${oc.env:HOME}", "@", "%"),
    *(
        " ",
        "\t",
        "\n",
        "\0",
        "\x7f",
        "é",
        "a",
        "glob(*)",
        "range(1,3)",
        "interval(0,1)",
        "choice(1,2)",
        "sort(2,1)",
        "/",
        "s3://",
    ),
)
VALUES = st.lists(st.sampled_from(ATOMS), max_size=4).map("".join)
NAMES = st.sampled_from([*GROUPS, *(key.name for key in KEYS), "hydra.mode", "hydra/launcher", "sweep_id", "nothing", ""])
PREFIXES = st.sampled_from(["", "", "", "", "", "", "~", "+", "++"])
OVERRIDES = st.one_of(
    st.builds(lambda prefix, name, value: f"{prefix}{name}={value}", PREFIXES, NAMES, VALUES),
    st.builds(lambda name, value: f"{name}={value}", NAMES, st.sampled_from(ATOMS)),
    VALUES,
    st.text(max_size=8),
)
COMMANDS = st.tuples(st.lists(OVERRIDES, min_size=1, max_size=3), st.booleans())


class Answers:
    """Composes, checks and plans overrides as the command does, without starting it anew for each."""

    def __init__(self, loader: Composed, master: DictConfig, host: Host) -> None:
        self._loader, self._master, self._host = loader, master, host

    def to(self, overrides: list[str], *, sweeping: bool) -> str:
        """The refusal; empty when they are accepted. Raises what the command would end with a traceback for."""
        try:
            refuse(overrides, sweeping=sweeping)
            if not sweeping:
                self._plan(overrides)
        except ConfigError as error:
            return str(error)
        except Exception as error:
            why = explained(error)
            if why is None:
                raise
            return why
        return ""

    def _plan(self, overrides: list[str]) -> None:
        composed = [one for one in overrides if not one.startswith("hydra") and one.lower() != "experiment=null"]
        cfg = self._loader.task_config(self._master, [*composed, "sweep_id=s", "repeat=0"])
        validate(cfg, self._host)
        validate_cells([cfg])
        plan_run(cfg, self._host)


@contextmanager
def answers(host: Host) -> Iterator[Answers]:
    """The command's answers on `host`."""
    GlobalHydra.instance().clear()
    with initialize_config_module(config_path().removeprefix("pkg://"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["hydra.job.name=loadgen"], RunMode.MULTIRUN)
        yield Answers(Composed(loader), master, host)


def is_an_answer(text: str) -> bool:
    """Whether `text` is empty, or a refusal with at least one problem and no traceback."""
    return not text or (text.startswith(f"{NOTHING_STARTED}\n- ") and "Traceback" not in text)
