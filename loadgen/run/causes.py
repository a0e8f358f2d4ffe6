"""Why a process of a run died, where something else than Ray knows."""

from __future__ import annotations

from collections.abc import Sequence

import ray
from ray.exceptions import RayError

from loadgen.cluster.nodes import Node
from loadgen.cluster.session import Seat
from loadgen.run.measured import Measured

ANSWER_S = 5.0


class Causes:
    """Made before the run; `explain` after it."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = list({node.name: node for node in nodes}.values())

    def explain(self, measured: Measured, seats: Sequence[Seat]) -> str:
        """The reason of a run that has ended, in better words where a process of it died."""
        if measured.status != "crashed":
            return measured.reason
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
