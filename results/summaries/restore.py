"""What a restored guest waits for, computed from where its vCPUs and the background stream had got by when.

Resident: resolved for a vCPU, or installed by the stream. Times are from the common start, exact to a sixty-fourth of a vCPU's
accesses: that is how often it is stamped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.derive.touched import Step, reached, steps_of

Row = Mapping[str, Any]

RUN_COLUMNS = ("memory_type", "prefetch_mark_ns", "prefetch_mark_pages")
"""What is read of a row of `runs`."""

VCPU_COLUMNS = ("start_ns", "mark_ns", "mark_accesses", "mark_pages", "pass_end_ns", "longest_fault_ns")
"""What is read of a row of `vcpus`."""


@dataclass(frozen=True)
class Restore:
    """Times in ns; None: it did not happen, or was not recorded.

    `second_touch_ns`: mean time of an access in the second pass.
    """

    first_touch_ns: int | None
    resident_50_ns: int | None
    resident_90_ns: int | None
    resident_100_ns: int | None
    longest_stall_ns: int | None
    second_touch_ns: float | None


def restore(run: Row, vcpus: Sequence[Row]) -> Restore:
    """The measures of one run from its row and those of its vCPUs."""
    starts = [vcpu["start_ns"] for vcpu in vcpus if vcpu["start_ns"]]
    if len(starts) < len(vcpus) or not vcpus:
        return Restore(None, None, None, None, None, None)
    start: int = min(starts)
    steps = sorted(_steps(run, vcpus))

    def resident(percent: int) -> int | None:
        at = reached(steps, percent)
        return None if at is None else at - start

    first = [at for vcpu in vcpus for at, done in _pairs(vcpu, "mark_ns", "mark_accesses") if done > 0]
    stalls = [vcpu["longest_fault_ns"] for vcpu in vcpus if vcpu["longest_fault_ns"] is not None]
    return Restore(
        first_touch_ns=min(first) - start if first else None,
        resident_50_ns=resident(50),
        resident_90_ns=resident(90),
        resident_100_ns=resident(100),
        longest_stall_ns=max(stalls, default=None),
        second_touch_ns=_second_touch_ns(vcpus),
    )


def _steps(run: Row, vcpus: Sequence[Row]) -> list[Step]:
    """(when, pages that became resident since the stamp before), of every vCPU and of the stream."""
    steps = [step for vcpu in vcpus for step in steps_of(vcpu, "mark_ns", "mark_pages")]
    if run["memory_type"] != "file":  # there the stream reads ahead, and a page is resident when it is touched
        steps += steps_of(run, "prefetch_mark_ns", "prefetch_mark_pages")
    return steps


def _pairs(row: Row, at: str, count: str) -> list[tuple[int, int]]:
    return list(zip(row[at] or (), row[count] or (), strict=True))


def _second_touch_ns(vcpus: Sequence[Row]) -> float | None:
    took, accesses = 0, 0
    for vcpu in vcpus:
        ends: Sequence[int] = vcpu["pass_end_ns"] or ()
        if len(ends) < 2 or not vcpu["mark_accesses"]:
            return None
        took += ends[1] - ends[0]
        accesses += vcpu["mark_accesses"][-1]
    return took / accesses if accesses else None
