"""The start of a run of several guests: none begins before the vCPUs of all are at their barriers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import ray

from loadgen.cluster.session import Seat

AHEAD_NS = 30_000_000
"""How far ahead of a host's clock the guests are told to start: longer than a call to an actor takes."""
ARM_TIMEOUT_S = 300.0


def open_gate(seats: Sequence[Seat], runs: Sequence[Any]) -> float:
    """Start the guests, whose VMM processes' `runs` are under way; those of one host at one time of its clock. Returns the
    seconds between the first word to a host and the last one's answer: by no more do guests of different hosts start apart.

    Clocks of different hosts are not compared: each host is told a time of its own. Raises what a guest raised meanwhile.
    """
    pending, running = [seat.server.armed.remote(ARM_TIMEOUT_S) for seat in seats], list(runs)
    while pending:  # a VMM process that dies on its way to the barrier must not be waited for
        ended, _ = ray.wait([*pending, *running], num_returns=1, timeout=ARM_TIMEOUT_S)
        ray.get(ended)
        pending = [one for one in pending if one not in ended]
        running = [one for one in running if one not in ended]
    began = time.monotonic()
    asked = {seat.node.name: seat.server.now.remote() for seat in reversed(seats)}
    now = dict(zip(asked, ray.get(list(asked.values()), timeout=ARM_TIMEOUT_S), strict=True))
    ray.get([seat.server.release.remote(now[seat.node.name] + AHEAD_NS) for seat in seats], timeout=ARM_TIMEOUT_S)
    return time.monotonic() - began
