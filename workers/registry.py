"""The strategies and engines of the native registries, by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from workers import _native


@cache
def strategy_entries() -> dict[str, dict[str, Any]]:
    """Every strategy of this build as `_native.strategies()` describes it, by name."""
    return {entry["name"]: entry for entry in _native.strategies()}


@cache
def engine_entries() -> dict[str, dict[str, Any]]:
    """Every engine of this build as `_native.engines()` describes it, by name."""
    return {entry["name"]: entry for entry in _native.engines()}


def strategy_entry(name: str) -> dict[str, Any]:
    """One of them. Raises KeyError with the list of names."""
    return _entry("strategy", strategy_entries(), name)


def engine_entry(name: str) -> dict[str, Any]:
    """One of them. Raises KeyError with the list of names."""
    return _entry("engine", engine_entries(), name)


def _entry(what: str, entries: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    if name not in entries:
        raise KeyError(f"{what} '{name}' is unknown; it is one of {', '.join(entries)}")
    return entries[name]


def pages_in_role(strategy: str, options: Mapping[str, int], *roles: str) -> int:
    """Most pages that the strategy's options in these roles (`fault_around`, `populate`) ask for at a time; 1 without one."""
    found: list[int] = [
        options.get(option["name"], option["default"])
        for option in strategy_entry(strategy)["options"]
        if option["role"] in roles
    ]
    return max([1, *found])
