"""What is missing from a data set, or is in it twice: planned runs, files of a run, runs copied under another id."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_TABLES_FROM = 2
"""The first schema version with `threads`."""


class Sweeps:
    """Takes every run's row with its vCPUs' and remembers little of each; `disagreements` once all have been added."""

    def __init__(self) -> None:
        self._stored: dict[str, Counter[str]] = defaultdict(Counter)
        self._statuses: dict[str, set[str]] = defaultdict(set)
        self._seen: dict[tuple[Any, ...], str] = {}

    def add(self, run: Row, vcpus: Sequence[Row]) -> Iterator[str]:
        """Whether the run is a copy of one before."""
        self._statuses[run["sweep_id"]].add(run["status"])
        if run["status"] != "interrupted":
            self._stored[run["sweep_id"]][run.get("plan_key") or ""] += 1
        mark = _fingerprint(run, vcpus)
        if mark is not None:
            first = self._seen.setdefault(mark, run["run_id"])
            if first != run["run_id"]:
                yield f"is a copy of run {first}: both began and ended at the same nanoseconds"

    def disagreements(self, sweep_id: str, planned: Sequence[str] | None) -> Iterator[str]:
        """Planned runs of a sweep that are missing, and runs that it did not plan. A sweep that was interrupted lacks the runs
        that it did not come to."""
        if planned is None:
            return
        plan, stored = Counter(planned), self._stored[sweep_id]
        missing, more = plan - stored, stored - plan
        if missing and "interrupted" not in self._statuses[sweep_id]:
            yield (
                f"sweep {sweep_id}: {missing.total()} of {plan.total()} planned runs are missing; if its driver was killed, "
                "the same command with resume=true measures them"
            )
        if more:
            yield f"sweep {sweep_id}: {more.total()} runs that it did not plan"


def files_missing(run: Row, vcpus: Sequence[Row], threads: Sequence[Row], rounds: int) -> Iterator[str]:
    """A sentence for each table in which the run must have rows and has none."""
    measured = run["status"] == "ok" or vcpus or threads
    if not measured:
        return
    if not vcpus:
        yield "has no rows in vcpus"
    if not threads and run["schema_version"] >= _TABLES_FROM:
        yield "has no rows in threads"
    if run.get("rounds") and not rounds:
        yield f"rounds={run['rounds']}, and it has no rows in rounds"


def _fingerprint(run: Row, vcpus: Sequence[Row]) -> tuple[Any, ...] | None:
    """What no two runs share: when their vCPUs began and ended. None where nothing was measured."""
    times = tuple((row["vcpu"], row["start_ns"], row["end_ns"]) for row in vcpus if row["start_ns"] and row["end_ns"])
    return (run.get("host"), run.get("started_at"), times) if times else None
