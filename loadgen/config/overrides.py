"""Overrides as they are typed, checked before Hydra composes: a mistake is answered with the key and what to type instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

from loadgen.config.choices import choices
from loadgen.config.command_line import quote_null
from loadgen.config.options import of_registries
from loadgen.config.schema import GROUPS, KEYS, SET_BY_THE_DRIVER
from loadgen.errors import ConfigError

LISTS = ("disturb",)
"""Groups that take several choices at once."""


def refuse(overrides: Sequence[str], *, sweeping: bool) -> None:
    """Raises ConfigError with every override that cannot be composed; `sweeping`: several values of a key are a sweep."""
    sweeping = sweeping or any(one.startswith("experiment=") or one == "hydra.mode=MULTIRUN" for one in overrides)
    problems = [problem for one in overrides for problem in _problems(one, sweeping)]
    twice = [key for key in GROUPS if sum(one.startswith(f"{key}=") for one in overrides) > 1]
    problems += [f"{key} is given more than once: give it once" for key in twice]
    if problems:
        raise ConfigError(problems)


def _problems(text: str, sweeping: bool) -> Iterator[str]:
    key = text.partition("=")[0]
    if text.startswith("~"):
        yield f"{text} would remove a key, and every run has all of them: write {text[1:].partition('=')[0] or 'KEY'}=VALUE"
    elif text.startswith("+") and not text.lstrip("+").startswith("hydra"):
        yield f"{text} would add a key, and there are no others than those of `loadgen --help`: write {text.lstrip('+')}"
    elif "=" not in text:
        yield f"{text!r} is neither an option nor KEY=VALUE: `loadgen --help` lists the keys"
    elif not key:
        yield f"{text!r} has no key before the =: write KEY=VALUE"
    elif key in SET_BY_THE_DRIVER:
        yield f"{key} is set by the sweep itself: leave it out"
    elif not key.lstrip("+").startswith("hydra") and key not in _known():
        yield f"there is no key {key}{_alike(key)}; `loadgen --help` lists all"
    else:
        yield from _of_the_value(key, text, sweeping)


def _of_the_value(key: str, text: str, sweeping: bool) -> Iterator[str]:
    try:
        override = OverridesParser.create().parse_override(quote_null(text))
    except (HydraException, ValueError) as error:
        yield f"{text}: the value cannot be parsed ({str(error).splitlines()[0]}): {_quoting(text)}"
        return
    value = override.value()
    if isinstance(value, IntervalSweep):
        yield f"{text}: interval() has no end of values to try: use range(START,STOP,STEP), or a list such as {key}=1,2"
    elif isinstance(value, Glob) and key not in GROUPS:
        yield f"{text}: glob() stands for choices of a group, and {key} is a key: list its values, such as {key}=A,B"
    elif override.is_sweep_override() and not sweeping:
        yield f"{text} gives several values: add -m to sweep over them{_or_a_list(key, text)}"
    elif key in GROUPS:
        yield from _of_the_group(key, text, override)


def _of_the_group(group: str, text: str, override: Override) -> Iterator[str]:
    value = override.value()
    if group == "experiment" and isinstance(value, ChoiceSweep | Glob):
        yield f"{text}: an experiment is a sweep of its own, so a command takes one: use one of {_names(group)}"
        return
    if isinstance(value, Glob):
        return
    if isinstance(value, RangeSweep):
        yield f"{text}: {group} takes names, not numbers: use one of {_names(group)}"
        return
    for one in value.list if isinstance(value, ChoiceSweep) else [value]:
        if not _is_choice(group, one):
            several = ", or several as 'disturb=[A,B]'" if group in LISTS else ""
            yield f"{text}: {group} takes the name of a choice{several}: use one of {_names(group)}"
            return


def _is_choice(group: str, value: Any) -> bool:
    if isinstance(value, list):
        return group in LISTS and bool(value) and all(isinstance(one, str | QuotedString) for one in value)
    return isinstance(value, str | QuotedString) or (value is None and group == "experiment")


@cache
def _known() -> frozenset[str]:
    """Keys, groups, and the sections between them."""
    options = [key.name for by_choice in of_registries().values() for keys in by_choice.values() for key in keys]
    names = [*GROUPS, "strategy.name", "engine.name", *options, *(key.name for key in KEYS)]
    return frozenset({*names, *(one.rpartition(".")[0] for one in names)} - {""})


def _alike(key: str) -> str:
    ends = [one for one in _known() if one.rpartition(".")[2] == key]
    alike = list(dict.fromkeys([*sorted(ends), *difflib.get_close_matches(key, sorted(_known()), 3, 0.6)]))
    return f": did you mean {' or '.join(alike)}?" if alike else ""


def _names(group: str) -> str:
    return ", ".join(one.name for one in choices()[group])


def _quoting(text: str) -> str:
    return f"quote it for Hydra and for the shell, {_quoted(text)}"


def _quoted(text: str) -> str:
    key, _, value = text.partition("=")
    return f"\"{key}='{value}'\"" if '"' in value else f"'{key}=\"{value}\"'"


def _or_a_list(key: str, text: str) -> str:
    """What else several values of this key may be meant as."""
    kind = next((one for one in KEYS if one.name == key), None)
    if key in LISTS or (kind and kind.type is tuple):
        return f", or write '{key}=[{text.partition('=')[2]}]' for a list"
    return f", or quote it: {_quoted(text)}" if kind and kind.type is str and not kind.choices else ""
