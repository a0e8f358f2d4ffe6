"""Why a process of a run died, where something else than Ray knows."""

from __future__ import annotations

from collections.abc import Sequence

import ray
from ray.exceptions import RayError

from loadgen.cluster.session import Seat
from loadgen.run.measured import Measured
from loadgen.run.pressure import Pressures

ANSWER_S = 5.0


def explained(measured: Measured, seats: Sequence[Seat], pressures: Pressures) -> str:
    """The reason of a run that has ended, in better words where a process of it died."""
    if measured.status != "crashed":
        return measured.reason
    if short := pressures.oom_kill():
        return f"a process was killed for want of memory: {short}; {measured.reason}"
    return _memory_error(seats) or measured.reason


def _memory_error(seats: Sequence[Seat]) -> str:
    """What a VMM process left in the guest before it ended itself over a memory error; empty when there was none."""
    for seat in seats:
        try:
            reason = str(ray.get(seat.server.stop_reason.remote(), timeout=ANSWER_S))
        except (RayError, TimeoutError):
            continue
        if reason.startswith("memory error: "):
            return reason
    return ""
