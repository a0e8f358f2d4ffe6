"""Whether `trusted` and `distrust` are what their own rules give for the row of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.derive.net import doubts
from results.derive.trust import (
    JUDGED_FROM_S,
    MOST_SWITCHES_PER_S,
    PLACED_ROLES,
    THROTTLED_FROM_S,
    Seen,
    headline,
    judged,
    preempted,
    replaced,
    throttled,
)
from results.schema import ROUNDS_FROM

Row = Mapping[str, Any]


def misjudged(run: Row, threads: Sequence[Row]) -> Iterator[str]:
    """A sentence for each reason that the run's rules give and its row lacks, and for each that no rule gives.

    Of a run on several hosts the row has the busiest host's shares only, so its reasons are not checked."""
    stored, trusted = list(filter(None, (run.get("distrust") or "").split("; "))), run.get("trusted")
    if bool(stored) is not (trusted is False):
        yield f"trusted={trusted}, and distrust={run.get('distrust')!r}"
    seen = _seen(run)
    if seen is None or run["schema_version"] < ROUNDS_FROM or "," in (run.get("guest_hosts") or ""):
        return
    quiet, given = judged(seen)
    given += [*_further(run), *doubts(run)]
    there, expected = set(map(headline, stored)), set(map(headline, given))
    yield from (f"trusted={trusted}, and its rules flag it: {text}" for text in given if headline(text) not in there)
    unknown = _not_checked(run, threads)
    yield from (f"flagged: {text}, which no rule gives" for text in stored if headline(text) not in expected | unknown)
    if not stored and not given and trusted is not quiet:
        yield f"trusted={trusted}, and its rules give {quiet}"
    if headline(preempted(0)) not in there:
        yield from (f"trusted={trusted}, and its rules flag it: {text}" for text in _of_pinned(run, threads))


def _seen(run: Row) -> Seen | None:
    shares = [run.get(f"{whose}_share") for whose in ("rig_cpu", "other_cpu", "steal")]
    if None in (*shares, run.get("watched_s"), run.get("machine_cpus")):
        return None
    rig, other, stolen = (float(share or 0) for share in shares)
    return Seen(
        watched_s=run["watched_s"],
        machine_cpus=run["machine_cpus"],
        unprepared=run.get("unprepared") or 0,
        rig_cpu_share=rig,
        other_cpu_share=other,
        steal_share=stolen,
        lag_s=run.get("driver_lag_s"),
        switches_per_s=None,
    )


def _further(run: Row) -> Iterator[str]:
    if run.get("recoveries"):
        yield replaced(run["recoveries"])
    if (run.get("throttled_s") or 0) >= THROTTLED_FROM_S:
        yield throttled(run["throttled_s"], run.get("cpu_quota"))


def _not_checked(run: Row, threads: Sequence[Row]) -> set[str]:
    """Reasons that the row has not enough to check for."""
    pinned = _switches_per_s(run, threads)
    found = {headline(throttled(0, 0))} if run.get("throttled_s") is None else set()
    return found | ({headline(preempted(0))} if pinned is None or pinned > MOST_SWITCHES_PER_S else set())


def _switches_per_s(run: Row, threads: Sequence[Row]) -> float | None:
    """Of each vCPU and reader; None where they were not counted."""
    switches: list[Any] = [row["involuntary_switches"] for row in threads if row["role"] in PLACED_ROLES]
    watched_s = run.get("watched_s")
    return None if not switches or None in switches or not watched_s else sum(switches) / len(switches) / watched_s


def _of_pinned(run: Row, threads: Sequence[Row]) -> Iterator[str]:
    """The reason where pinned threads were preempted. Only of one guest whose vCPUs and readers had a CPU each, with no thread of
    the run beside them that may have taken it."""
    if run["watched_s"] < JUDGED_FROM_S or run.get("guests") != 1:
        return
    cpus = ";".join(filter(None, (run.get("vcpu_cpus"), run.get("reader_cpus")))).split(";")
    placed = sum(row["role"] in PLACED_ROLES for row in threads)
    alone = all(cpu.isdigit() for cpu in cpus) and len(set(cpus)) == len(cpus) == placed
    if not alone or any(row["role"] not in (*PLACED_ROLES, "vmm", "driver") for row in threads):
        return
    each = _switches_per_s(run, threads)
    if each is not None and each > MOST_SWITCHES_PER_S:
        yield preempted(each)
