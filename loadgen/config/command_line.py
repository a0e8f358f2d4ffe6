"""The command line as the user writes it, where Hydra's own grammar would have it otherwise, and the way back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import OmegaConf

SWITCHES = {"--quiet": "quiet=true", "--json": "json=true"}
OF_THE_COMMAND = ("resume",)
"""Keys that say how a command goes on, and belong to no run of it."""
MULTIRUN, RUN = "hydra.mode=MULTIRUN", "hydra.mode=RUN"


def to_hydra(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra takes them: our switches are keys, and `strategy=null` names a strategy.

    The keys go beside the first override: argparse does not take overrides that stand on both sides of an option.
    """
    theirs = [quote_null(one) for one in arguments if one not in SWITCHES]
    ours = [SWITCHES[one] for one in arguments if one in SWITCHES]
    first = next((at for at, one in enumerate(theirs) if "=" in one and not one.startswith("-")), len(theirs))
    return [*theirs[:first], *ours, *theirs[first:]]


def quote_null(argument: str) -> str:
    """`strategy=null` names a strategy, where Hydra's grammar would read the absence of a value."""
    key, equals, values = argument.partition("=")
    if key != "strategy":
        return argument
    return key + equals + ",".join("'null'" if value.strip() == "null" else value for value in values.split(","))


def from_hydra(overrides: Iterable[str]) -> str:
    """Overrides as Hydra keeps them, as one writes them in a shell."""
    return shlex.join(one.replace("'null'", "null") if one.startswith("strategy=") else one for one in overrides)


def command(task: Sequence[str], hydra: Sequence[str]) -> str:
    """The command that repeats a sweep, from the overrides that Hydra was given for the task and for itself."""
    told = {MULTIRUN} if any(one.startswith("experiment=") for one in task) else {MULTIRUN, RUN}  # Hydra tells itself RUN
    arguments = [*(["-m"] if MULTIRUN in hydra else []), *(one for one in hydra if one not in told)]
    return " ".join(filter(None, ("loadgen", from_hydra(arguments), from_hydra(task))))


def given(overrides: Any) -> tuple[list[str], list[str]]:
    """The overrides of `hydra.overrides` for the task and for Hydra itself, as they were given: not interpolated. Those that say
    only how this command goes on are left out."""
    lists: dict[str, list[str]] = OmegaConf.to_container(overrides, resolve=False)  # type: ignore[assignment]
    return [one for one in lists["task"] if one.partition("=")[0] not in OF_THE_COMMAND], lists["hydra"]


def literal(text: str) -> str:
    """`text` as a value of the configuration in which `${` is no interpolation."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)


def as_override(key: str, text: str) -> str:
    """`key` set to `text` as it stands, whatever is in it: quoted for Hydra's grammar."""
    quoted = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), literal(text))
    return f"{key}='{quoted}'"
