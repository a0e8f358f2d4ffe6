"""The command line on its way to Hydra and back."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from loadgen.config.command_line import as_override, command, from_hydra, literal, to_hydra
from loadgen.sweep.compose_cache import Composed

Configure = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("typed", "hydra"),
    [
        (["--json", "-m", "vcpus=1,2", "seed=3"], ["-m", "json=true", "vcpus=1,2", "seed=3"]),
        (["-m", "vcpus=1,2", "--quiet"], ["-m", "vcpus=1,2", "quiet=true"]),
        (
            ["strategy=eager", "-m", "vcpus=1,2", "-c", "job", "seed=3"],
            ["-m", "-c", "job", "strategy=eager", "vcpus=1,2", "seed=3"],
        ),
        (["--info", "vcpus=1", "--multirun"], ["--info", "all", "--multirun", "vcpus=1"]),
        (["vcpus=1", "--info", "plugins"], ["--info", "plugins", "vcpus=1"]),
        (["experiment=null", "vcpus=1"], ["vcpus=1"]),
        (["--quiet", "--json"], ["quiet=true", "json=true"]),
        (["-m", "--json"], ["-m", "json=true"]),
        (["strategy=null,uffd_wait"], ["strategy='null',uffd_wait"]),
        (["strategy=null_like", "fault_mix=hit"], ["strategy=null_like", "fault_mix=hit"]),
    ],
)
def test_options_come_first_switches_become_keys_and_null_a_name(typed: list[str], hydra: list[str]) -> None:
    assert to_hydra(typed) == hydra


@pytest.mark.parametrize(
    ("task", "hydra", "text"),
    [
        (["vcpus=2"], ["hydra.mode=RUN"], "loadgen vcpus=2"),
        (["strategy='null',uffd_wait"], ["hydra.mode=MULTIRUN"], "loadgen -m strategy=null,uffd_wait"),
        (["experiment=default"], ["hydra.mode=RUN"], "loadgen hydra.mode=RUN experiment=default"),
        ([], ["hydra/launcher=basic"], "loadgen hydra/launcher=basic"),
        (["dataset=a b"], [], "loadgen 'dataset=a b'"),
        ([], [], "loadgen"),
    ],
)
def test_the_command_that_repeats_a_sweep_is_what_was_typed(task: list[str], hydra: list[str], text: str) -> None:
    assert command(task, hydra) == text


def test_overrides_come_back_as_a_shell_takes_them() -> None:
    assert shlex.split(from_hydra(["strategy='null'", "dataset=a b", "x=$y"])) == ["strategy=null", "dataset=a b", "x=$y"]


ANY_COMMAND = st.lists(
    st.sampled_from(["'", "\\", "${", "$", "{", "}", " ", ",", "=", "a", '"', "[", "oc.env:HOME"]), max_size=12
)


@pytest.mark.parametrize(
    "parts", [["'", "\\"], ["\\", "${", "}"], ["[", ",", '"', "="], ["\\", "\\", "'", "${", "oc.env:HOME", "}"]]
)
def test_any_text_reaches_hydras_configuration_as_it_stands(configure: Configure, parts: list[str]) -> None:
    text = "loadgen " + "".join(parts) + " end"
    assert configure(as_override("command", text)).command == text


@pytest.fixture
def composed(configure: Configure) -> Callable[[list[str]], DictConfig]:
    """Composes as a sweep does its jobs: without the 100 ms that Hydra takes for each."""
    loader = GlobalHydra.instance().config_loader()
    sweep = Composed(loader)
    master = loader.load_configuration("config", ["hydra.job.name=loadgen"], RunMode.MULTIRUN)
    return lambda overrides: sweep.task_config(master, overrides)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=ANY_COMMAND)
def test_any_text_reaches_the_configuration_as_it_stands(composed: Callable[[list[str]], DictConfig], parts: list[str]) -> None:
    text = "loadgen " + "".join(parts) + " end"
    assert composed([as_override("command", text)]).command == text
    cfg = composed([])
    cfg.command = literal(text)
    assert cfg.command == text
