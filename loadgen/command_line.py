"""The command line as the user writes it, where Hydra's own grammar would have it otherwise, and the way back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

SWITCHES = {"--quiet": "quiet=true", "--json": "json=true"}
MULTIRUN = "hydra.mode=MULTIRUN"


def to_hydra(argument: str) -> str:
    """One argument as Hydra takes it: our switches are keys, and `strategy=null` names a strategy."""
    return SWITCHES.get(argument) or quote_null(argument)


def quote_null(argument: str) -> str:
    """`strategy=null` names a strategy, where Hydra's grammar would read the absence of a value."""
    key, equals, values = argument.partition("=")
    if key != "strategy":
        return argument
    return key + equals + ",".join("'null'" if value.strip() == "null" else value for value in values.split(","))


def from_hydra(overrides: Iterable[str]) -> str:
    """Overrides as Hydra keeps them, as one writes them in a shell."""
    return shlex.join(one.replace("'null'", "null") if one.startswith("strategy=") else one for one in overrides)


def command(task: Iterable[str], hydra: Iterable[str]) -> str:
    """The command that repeats a sweep, from the overrides that Hydra was given for the task and for itself."""
    of_hydra = list(hydra)
    arguments = [*(["-m"] if MULTIRUN in of_hydra else []), *(one for one in of_hydra if one != MULTIRUN)]
    return " ".join(filter(None, ("loadgen", from_hydra(arguments), from_hydra(task))))


def as_override(key: str, text: str) -> str:
    """`key` set to `text` as it stands, whatever is in it: quoted for Hydra's grammar, `${` is no interpolation."""
    plain = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)
    quoted = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), plain)
    return f"{key}='{quoted}'"
