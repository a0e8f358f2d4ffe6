"""How much swap a run needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.spec import NO_SWAP, SwapSpec

MIB = 1 << 20
SPARE_BYTES = 4 * MIB
"""Beside the pages of the mix: the swap header, and what else reclaim takes along."""


def pages_swapped_bytes(values: Mapping[str, Any]) -> int:
    """Bytes of the region that the fault mix swaps out, of a configuration as plain values."""
    region_bytes: int = values["memory"]["region_mib"] * MIB
    share: float = values["fault_mix"]["swapped"]
    return round(region_bytes * share)


def plan_swap(values: Mapping[str, Any]) -> SwapSpec:
    """What is set up for a run: nothing when the mix swaps nothing and no size was asked for."""
    asked = values["swap"]
    needed = pages_swapped_bytes(values)
    size = asked["mib"] * MIB or (needed + needed // 8 + SPARE_BYTES if needed else 0)
    if asked["name"] == "none" or size == 0:
        return NO_SWAP
    return SwapSpec(asked["name"], size, asked["folder"] if asked["name"] == "file" else "")
