"""The strategies of the native registry, by name."""

from __future__ import annotations

from functools import cache
from typing import Any

from workers import _native


@cache
def strategy_entries() -> dict[str, dict[str, Any]]:
    """Every strategy of this build as `_native.strategies()` describes it, by name."""
    return {entry["name"]: entry for entry in _native.strategies()}


def strategy_entry(name: str) -> dict[str, Any]:
    """One of them. Raises KeyError with the list of names."""
    entries = strategy_entries()
    if name not in entries:
        raise KeyError(f"strategy '{name}' is unknown; it is one of {', '.join(entries)}")
    return entries[name]
