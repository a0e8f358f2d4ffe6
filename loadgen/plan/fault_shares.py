"""The shares of a fault mix as plain values: the kind named by `rest` takes what the others leave."""

from __future__ import annotations

from typing import Any

from workers.spec import FAULT_KINDS


def settle(mix: dict[str, Any]) -> None:
    """Give `mix[mix["rest"]]` what is left to 1, in place; nothing when it is `none`, or no kind at all."""
    rest = mix["rest"]
    if rest in FAULT_KINDS:
        mix[rest] = max(0.0, 1.0 - sum(mix[kind] for kind in FAULT_KINDS if kind != rest))
