"""The common start of several guests: none starts before the vCPUs of all are at their barriers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from loadgen.cluster.session import Seat

AHEAD_NS = 30_000_000
"""How far ahead of a host's clock its guests start: longer than a call to an actor takes."""

Ask = Callable[[str, Sequence[tuple[Seat, tuple[Any, ...]]]], dict[int, Any]]
"""Asks the page servers of these guests for a method's answer, each with its arguments and all at once, or those that replace
them: answers by the guest's number, without those of guests that are lost."""


def open_gate(seats: Sequence[Seat], ask: Ask, rounds: int) -> float:
    """Start the guests into the last of so many rounds, their vCPUs all at their barriers; those of one host at one time of its
    clock. Returns the seconds between the first call to a host and the last answer, a bound on how far apart guests of different
    hosts start.

    Clocks of different hosts are not compared: each host gets a time of its own. Raises Loss, and what a guest raised meanwhile.
    """
    began = time.monotonic()
    clocks = ask("now", [(seat, ()) for seat in seats])
    now = {seat.node.name: clocks[seat.number] for seat in reversed(seats) if seat.number in clocks}  # of its first guest left
    ask("release", [(seat, (now[seat.node.name] + AHEAD_NS, rounds)) for seat in seats if seat.node.name in now])
    return time.monotonic() - began
