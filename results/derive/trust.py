"""How noisy a run's host was: the rules by which the driver flags a run, and by which `verify` judges it again from its row."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

PLACED_ROLES = ("vcpu", "reader")
"""Threads that the placement gives CPUs to; others go where the scheduler puts them, which may be a CPU of these."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
"""Of /proc/stat, in which the machine's time is counted."""
JUDGED_FROM_S = 0.05
"""Shares of a shorter look are not judged: the calls that start and end a run weigh too much."""
MOST_OF_MACHINE = 0.10
"""Largest part of the machine's CPUs that the benchmark overhead may use, and so may other processes."""
MOST_STOLEN = 0.05
"""Largest part of the machine's CPU time that the hypervisor may take."""
MOST_LAG_S = 0.25
"""A status poll that comes later than this found a driver, or a page server, that did not get a CPU."""
MOST_SWITCHES_PER_S = 100.0
"""Most involuntary context switches of a thread in a second where each has a CPU of its own: a thread that has to share takes
turns of a few milliseconds, hundreds of times a second."""
NOT_PREPARED, LATE_POLL = "pages were not in the state asked for", "status poll late"
OF_THE_RUN = (NOT_PREPARED, LATE_POLL)
"""Reasons that are of a run as a whole, and of none of its hosts."""
THROTTLED_FROM_S = 0.001
"""Less than a scheduler period cannot be separated from the calls around the measured phase."""


@dataclass(frozen=True)
class Seen:
    """What was seen of one run; CPU shares are CPU seconds a second, `lag_s` is None where no look was taken.

    `switches_per_s`: involuntary context switches of vCPU and reader threads, each a second; None where threads of the run
    have to take turns anyway.
    """

    watched_s: float
    machine_cpus: int
    unprepared: int
    rig_cpu_share: float
    other_cpu_share: float
    steal_share: float
    lag_s: float | None
    switches_per_s: float | None


def reasons(seen: Seen) -> list[str]:
    """Why the run is flagged as noisy; empty when it is not. Pure. The figures come last, in brackets."""
    return list(_reasons(seen))


def judged(seen: Seen) -> tuple[bool | None, list[str]]:
    """(`trusted`, why not): True, False, or None where the time was too short to judge. Pure.

    /proc/stat counts in ticks, so the share of other processes may be one tick of each CPU more than it seems.
    """
    found = reasons(seen)
    if found:
        return False, found
    unseen = seen.machine_cpus / TICKS_PER_S / seen.watched_s
    quiet = seen.watched_s >= JUDGED_FROM_S and seen.other_cpu_share + unseen <= MOST_OF_MACHINE * seen.machine_cpus
    return (True if quiet else None), found


def headline(reason: str) -> str:
    """A reason without its figures: the same for every run it speaks against."""
    return reason.partition(" (")[0]


def preempted(switches_per_s: float) -> str:
    """The reason where pinned threads were switched out so often."""
    return f"pinned threads were preempted ({switches_per_s:.0f}/s each)"


def replaced(recoveries: int) -> str:
    """The reason where a page server was lost in the middle of a run."""
    return f"the page server was killed and replaced ({recoveries})"


def throttled(seconds: float, cpus: float | None) -> str:
    """The reason where a control group's quota kept threads from running."""
    return f"throttled by a CPU quota ({seconds:.2f} s, {cpus or 0:g} CPUs)"


def _reasons(seen: Seen) -> Iterator[str]:
    if seen.unprepared > 0:
        yield f"{NOT_PREPARED} ({seen.unprepared})"
    if seen.lag_s is not None and seen.lag_s > MOST_LAG_S:
        yield f"{LATE_POLL} ({seen.lag_s:.2f} s)"
    if seen.watched_s < JUDGED_FROM_S:
        return
    cpus = seen.machine_cpus
    ticks = cpus / TICKS_PER_S / seen.watched_s  # one of each CPU: by so much may the machine's time be counted too high
    for share, most, what in (
        (seen.rig_cpu_share, MOST_OF_MACHINE * cpus, "benchmark overhead was high"),
        (seen.other_cpu_share, MOST_OF_MACHINE * cpus + ticks, "other processes were busy"),
        (seen.steal_share, MOST_STOLEN * cpus, "the hypervisor took CPU time"),
    ):
        if share > most:
            yield f"{what} ({share:.2f} of {cpus} CPUs)"
    if seen.switches_per_s is not None and seen.switches_per_s > MOST_SWITCHES_PER_S:
        yield preempted(seen.switches_per_s)
