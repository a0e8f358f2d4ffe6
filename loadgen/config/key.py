"""A key of the configuration: what it means and which values it takes. The keys themselves are in `loadgen.config.schema`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]
"""A resolved configuration as plain values."""

Number = int | float


class Chosen:
    """The default of a key whose value comes with the choice of its group: `memory=anon` sets `memory.type`."""


CHOSEN = Chosen()

TAKES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", tuple: "a list such as [0,1]"}
"""What a key of a type takes, in words."""


@dataclass(frozen=True)
class When:
    """The part of a configuration under which a key is read; `text` is that part as one types it."""

    text: str
    holds: Callable[[Values], bool]


@dataclass(frozen=True)
class Key:
    """One key. `name` is dotted; `default` also gives its type; `help` is one line, without the unit.

    `least` and `most` bound a number, or each number of a list; `bound` is what `most` protects. `choices` bound a word.
    `when`: the key is read only then.
    """

    name: str
    default: Any
    help: str
    unit: str = ""
    least: Number | None = None
    most: Number | None = None
    bound: str = ""
    choices: tuple[str, ...] = ()
    when: When | None = None

    @property
    def group(self) -> str:
        """The group of the key; empty for a key of the top level."""
        return self.name.rpartition(".")[0].partition(".")[0]

    @property
    def type(self) -> type:
        """The type of its values; `tuple` for a list, whose numbers are integers."""
        return str if isinstance(self.default, Chosen) else type(self.default)

    def of(self, values: Values) -> Any:
        """Its value in a configuration. Raises KeyError where the configuration lacks it."""
        return _at(values, self.name)

    def problems(self, value: Any) -> Iterator[str]:
        """Why `value` cannot be used, each with what to do."""
        if not self._has_type(value):  # an interpolation brings a value of any type
            yield f"{self.name}={value} is not {TAKES[self.type]}: use {self.range or TAKES[self.type]}"
        elif self.type is tuple:
            for one in value:
                yield from self._of_one(one)
        else:
            yield from self._of_one(value)

    def _has_type(self, value: Any) -> bool:
        if self.type is tuple:
            one = str if self.least is None else int
            return isinstance(value, list | tuple) and all(type(item) is one for item in value)
        if self.type is float:
            return isinstance(value, int | float) and not isinstance(value, bool)
        return type(value) is self.type

    def _of_one(self, value: Any) -> Iterator[str]:
        if self.choices and value not in self.choices:
            yield f"{self.name}={value} is unknown: use one of {', '.join(filter(None, self.choices))}"
        elif self.least is not None and self.most is not None:
            yield from self._out_of_bounds(value)
        elif isinstance(value, str) and "\0" in value:
            yield f"{self.name} contains a null byte: leave it out"

    def _out_of_bounds(self, value: Number) -> Iterator[str]:
        assert self.least is not None and self.most is not None
        if not math.isfinite(value):
            yield f"{self.name}={value} is not a finite number: use {self.range}"
        elif value < self.least:
            yield f"{self.name}={number(value)} is too small: use at least {number(self.least)}"
        elif value > self.most:
            why = f" ({self.bound})" if self.bound else ""
            yield f"{self.name}={number(value)} is too large: use at most {number(self.most)}{why}"

    @property
    def range(self) -> str:
        """The values it takes, in words; empty for a text of any kind."""
        if self.choices:
            return ", ".join(one or "''" for one in self.choices)
        if self.least is not None and self.most is not None:
            return f"{number(self.least)} to {number(self.most)}"
        return "true or false" if self.type is bool else ""

    @property
    def shown_default(self) -> str:
        """The default as one types it; empty where the group's choice sets it."""
        if isinstance(self.default, Chosen):
            return ""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, str):
            return self.default or "''"
        if isinstance(self.default, tuple):
            return "[]"
        return number(self.default) if isinstance(self.default, int | float) else str(self.default)


def number(value: Number) -> str:
    """A number without an exponent where it is short without one."""
    return str(value) if isinstance(value, int) else f"{value:.10g}"


def chosen(key: str, *choices: str) -> When:
    """`key` is one of `choices`, each of which the group of that name sets."""
    group, _, name = key.rpartition(".")
    return When(" or ".join(f"{group}={one}" for one in choices), lambda values: values[group][name] in choices)


def positive(key: str) -> When:
    """`key` is more than 0."""
    return When(f"a positive {key}", lambda values: _at(values, key) > 0)


def _at(values: Values, key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found[part]
    return found
