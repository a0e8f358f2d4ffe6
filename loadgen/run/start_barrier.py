"""The common start of several guests: none starts before the vCPUs of all are at their barriers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from loadgen.cluster.answers import Answers, asked
from loadgen.cluster.session import Seat

AHEAD_NS = 30_000_000
"""How far ahead of a host's clock its guests start: longer than a call to an actor takes."""


def open_gate(seats: Sequence[Seat], answers: Answers) -> float:
    """Start the guests, whose vCPUs are all at their barriers; those of one host at one time of its clock. Returns the
    seconds between the first call to a host and the last answer, a bound on how far apart guests of different hosts start.

    Clocks of different hosts are not compared: each host gets a time of its own. Raises Loss, and what a guest raised meanwhile.
    """
    began = time.monotonic()
    first = {seat.node.name: seat.server for seat in reversed(seats)}
    now = dict(zip(first, answers.get("start", asked(first.values(), "now")), strict=True))
    answers.get("start", [(seat.server, seat.server.release.remote(now[seat.node.name] + AHEAD_NS)) for seat in seats])
    return time.monotonic() - began
