"""Options of strategies and engines as keys: the native registries declare them, this gives them the schema's form."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from loadgen.config.key import Key
from workers.registry import engine_entries, strategy_entries


@cache
def of_registries() -> Mapping[str, Mapping[str, tuple[Key, ...]]]:
    """Keys by group (`strategy`, `engine`) and by the choice they belong to."""
    return {
        group: {name: tuple(_key(group, option) for option in entry["options"]) for name, entry in entries.items()}
        for group, entries in (("strategy", strategy_entries()), ("engine", engine_entries()))
    }


def options_of(group: str, choice: str) -> tuple[Key, ...]:
    """Keys of one choice; none of an unknown one."""
    return of_registries()[group].get(choice, ())


def _key(group: str, option: Mapping[str, Any]) -> Key:
    name, choices = f"{group}.{option['name']}", tuple(option["choices"])
    if choices:
        return Key(name, choices[option["default"]], option["help"], choices=choices)
    unit = "pages" if option["name"].endswith("_pages") else ""
    return Key(name, option["default"], option["help"], unit, option["minimum"], option["maximum"])
