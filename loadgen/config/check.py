"""Each key by itself, as its line in the schema has it: bounds, choices, and whether anything reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from loadgen.config.key import Key, Values
from loadgen.config.options import of_registries, options_of
from loadgen.config.schema import KEYS, SET_BY_THE_DRIVER
from loadgen.plan.values import copied


def problems(values: Values) -> Iterator[str]:
    """Values that are out of bounds or unknown."""
    for group in of_registries():
        yield from _choice(group, values[group])
    for key in (*KEYS, *_options(values)):
        yield from key.problems(key.of(values))
    if not values["dataset"].strip():
        yield "dataset is empty: give a folder, or a URI such as s3://bucket/path"


def unread(values: Values) -> dict[str, str]:
    """Keys that are set and that nothing reads in this configuration, each with the refusal of it."""
    return {
        key.name: f"{key.name}={_shown(key.of(values))} is read only with {key.when.text}: add that, or leave {key.name} out"
        for key in KEYS
        if key.when is not None and _is_set(key, key.of(values)) and not key.when.holds(values)
    }


def unread_everywhere(cells: Sequence[Values]) -> list[str]:
    """Refusals of the keys that no cell of a sweep reads though one sets them. Of a cell that reads a key the baseline may be
    one that does not."""
    refused: dict[str, str] = {}
    for values in cells:
        refused |= unread(values)
    read = {key.name for key in KEYS if key.name in refused and any(key.when and key.when.holds(values) for values in cells)}
    return [text for name, text in refused.items() if name not in read]


def measured_alike(values: Values) -> dict[str, Any]:
    """The configuration with every unread key at its default: two cells with the same are the same measurement."""
    alike: dict[str, Any] = copied(values)
    for name in unread(values):
        *sections, last = name.split(".")
        at = alike
        for section in sections:
            at = at[section]
        at[last] = next(key.default for key in KEYS if key.name == name)
    for name in SET_BY_THE_DRIVER:
        alike.pop(name, None)
    return alike


def _choice(group: str, chosen: Any) -> Iterator[str]:
    """Why the keys of `group` are not those of its choice."""
    name = str(chosen["name"])
    entries = of_registries()[group]
    if name not in entries:
        yield f"{group}.name={name} is unknown: use {group}= with one of {', '.join(entries)}"
    elif {*chosen} != {"name", *(key.name.rpartition(".")[2] for key in options_of(group, name))}:
        yield f"{group}.name={name} leaves the options of another {group}: use {group}={name}"


def _options(values: Values) -> Iterator[Key]:
    for group in of_registries():
        if not list(_choice(group, values[group])):
            yield from options_of(group, values[group]["name"])


def _is_set(key: Key, value: Any) -> bool:
    return bool(tuple(value) != key.default if key.type is tuple else value != key.default)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
