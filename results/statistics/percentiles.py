"""Which stored percentiles are shown: a run of few faults has no 99.9th one worth the name."""

from __future__ import annotations

from collections.abc import Sequence

from results.statistics.design import Row

P999_FROM = 10_000
"""Recorded faults from which the 99.9th percentile is shown: ten faults lie above it."""


def shown(run: Row, column: str) -> float | None:
    """The run's value of a column of `runs` that is a number; None for a 99.9th percentile of fewer than P999_FROM faults."""
    value: float | None = run[column]
    if "p999" in column and (run.get("fault_records") or 0) < P999_FROM:
        return None
    return value


def shown_of(runs: Sequence[Row], column: str) -> list[float | None]:
    """The same of the repeats of a cell. Of a 99.9th percentile none where one of them has too few faults: the others are not all
    of its repeats."""
    values = [shown(run, column) for run in runs]
    return [] if "p999" in column and None in values else values
