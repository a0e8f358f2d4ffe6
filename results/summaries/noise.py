"""Runs flagged as noisy, and runs that were not judged: how many there are, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from results.derive.trust import headline
from results.statistics.design import Row
from results.store.locations import DataSetError

HEAD = "noisy"
"""Head of the column that marks the numbers of flagged runs."""


def flagged(runs: Iterable[Row]) -> int:
    """How many of the runs are flagged as noisy."""
    return sum(run.get("trusted") is False for run in runs)


def mark(flagged: int, runs: int) -> str:
    """The mark of a row of a table whose numbers are of so many runs."""
    return f"{flagged} of {runs}" if flagged else "-"


def noise(runs: Sequence[Row]) -> Iterator[str]:
    """Lines about rows of `runs`: how many are flagged and why, and how many were not judged. The figures of each stay in its
    column `distrust`."""
    noisy = [run for run in runs if run.get("trusted") is False]
    if noisy:
        reasons = Counter(headline(reason) for run in noisy for reason in (run.get("distrust") or "no reason").split("; "))
        why = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        yield f"flagged as noisy: {len(noisy)} of {len(runs)} runs: {why}; --trusted-only leaves them out"
    unjudged = sum(run.get("trusted") is None for run in runs)
    if unjudged:
        yield f"not judged: {unjudged} of {len(runs)} runs; whether the host was quiet is not known"


def trusted_only(runs: Sequence[Row]) -> list[Row]:
    """The runs that were judged and are not flagged. Raises DataSetError when none is left."""
    kept = [run for run in runs if run.get("trusted") is True]
    if runs and not kept:
        raise DataSetError(
            f"--trusted-only leaves none of {len(runs)} runs: {flagged(runs)} are flagged as noisy, "
            f"{sum(run.get('trusted') is None for run in runs)} were not judged; leave the option out to see them"
        )
    return kept
