"""Why a run ended, where the error that ended it is not the cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import ray
from ray.exceptions import RayError

from loadgen.cluster.session import Seat
from loadgen.run.measured import Measured
from loadgen.run.pressure import Pressures

ANSWER_S = 2.0


def explained(measured: Measured, seats: Sequence[Seat], pressures: Pressures) -> str:
    """The reason of a run that has ended: the cause where it lies outside the process that failed."""
    if measured.status in ("ok", "interrupted"):
        return measured.reason
    of_a_file = [seat for seat in seats if seat.spec.source.name == "file"]
    if change := next(filter(None, _answers(of_a_file, "snapshot_change")), ""):
        # A file that was touched meanwhile may hold what it held: the wrong word is named as well.
        wrong_word = measured.status == "corrupt" and of_a_file[0].spec.source.contents_of_file
        return f"{change}; {measured.reason}" if wrong_word else change
    if measured.status != "crashed":
        return measured.reason
    reasons = _answers(seats, "stop_reason")  # a VMM process leaves it in the guest before it ends itself
    memory_error = next((reason for reason in reasons if reason.startswith("memory error: ")), "")
    return memory_error or pressures.explained(measured.reason)


def _answers(seats: Sequence[Seat], method: str) -> Iterator[str]:
    """The reasons of the page servers that answer."""
    for seat in seats:
        with suppress(RayError):
            yield str(ray.get(getattr(seat.server, method).remote(), timeout=ANSWER_S))
