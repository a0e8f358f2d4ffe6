"""The command line as the user writes it, where Hydra's own grammar would have it otherwise, and the way back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import OmegaConf

SWITCHES = {"--quiet": "quiet=true", "--json": "json=true"}
WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
WITH_VALUE_OR_NOT = {"--info": "all", "-i": "all"}
OF_THE_COMMAND = ("resume",)
"""Keys of a command that belong to no run of it."""
MULTIRUN, RUN = "hydra.mode=MULTIRUN", "hydra.mode=RUN"


def to_hydra(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra takes them: options first, for argparse takes no overrides on both sides of one; our switches as
    keys; `strategy=null` as the name of a strategy; `experiment=null`, which is the default, left out."""
    options, overrides = separated(arguments)
    return [*options, *(quote_null(one) for one in overrides if one.lower() != "experiment=null")]


def separated(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options with their values, and overrides, each in their order. Our switches become overrides."""
    options: list[str] = []
    overrides: list[str] = []
    left = list(arguments)
    while left:
        one = left.pop(0)
        if one in SWITCHES:
            overrides.append(SWITCHES[one])
        elif one in WITH_VALUE:
            options += [one, *left[:1]]
            left = left[1:]
        elif one in WITH_VALUE_OR_NOT:
            value = left.pop(0) if left and "=" not in left[0] and not left[0].startswith("-") else WITH_VALUE_OR_NOT[one]
            options += [one, value]
        elif one.startswith("-"):
            options.append(one)
        else:
            overrides.append(one)
    return options, overrides


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
    added = {MULTIRUN} if any(one.startswith("experiment=") for one in task) else {MULTIRUN, RUN}  # Hydra adds RUN itself
    arguments = [*(["-m"] if MULTIRUN in hydra else []), *(one for one in hydra if one not in added)]
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
