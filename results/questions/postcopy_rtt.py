"""What does the distance to the source cost a guest in post-copy, and what does pushing the rest save?"""

from __future__ import annotations

from collections.abc import Sequence

from results.figures import cell, thousand, us
from results.statistics.design import Row, grouped
from results.statistics.intervals import Estimate, coverage
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.measured import ok_runs
from results.summaries.summary import median_or_none, ratio_to
from results.tables.answer import Answer, answered
from results.tables.estimates import RATIO_MARKS, ratio

AXES = ("strategy", "source_rtt_us", "vcpus")
_SHOWN = ("pages_per_s", "latency_p50_ns", "fetched_on_demand", "fetched_pushed")


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a strategy and round-trip time, with and without push. Raises DataSetError without a run from a remote source."""
    runs = ok_runs(dataset, (*AXES, *_SHOWN, "source", "source_push"), sweep_id, "postcopy_rtt")
    runs = [run for run in runs if run["source"] == "remote"]
    if not runs:
        raise DataSetError("no run from a remote source: `loadgen experiment=postcopy_rtt` makes some")
    groups = grouped(runs, AXES)
    rows = []
    for key, group in groups.items():
        pull, push = ([run for run in group if bool(run["source_push"]) is pushed] for pushed in (False, True))
        rows.append(
            (
                *map(cell, key),
                *(thousand(_median(side, "pages_per_s")) for side in (pull, push)),
                ratio(_push_to_pull(pull, push)),
                *(us(_median(side, "latency_p50_ns")) for side in (pull, push)),
                *(cell(_median(push, column)) for column in ("fetched_on_demand", "fetched_pushed")),
            )
        )
    heads = (
        *("strategy", "rtt us", "vcpus", "pull kpages/s", "push kpages/s", "push / pull"),
        *("pull p50 us", "push p50 us", "pages asked", "pages pushed"),
    )
    repeats = min(len({run["repeat"] for run in group}) for group in groups.values())
    notes = [
        "medians over repeats; rtt: round-trip time that the source emulates",
        "pull: pages come when they are asked for; push: the source also sends the others unasked",
        "p50: exact, of each run's faults, then the median run; pages asked, pages pushed: with push",
        *([f"push / pull: {coverage(repeats):.1%} coverage with {repeats} repeats; {RATIO_MARKS}"] if repeats > 1 else []),
    ]
    return answered(heads, rows, list(groups.values()), notes, keys=len(AXES))


def _median(runs: Sequence[Row], column: str) -> float | None:
    return median_or_none(run[column] for run in runs)


def _push_to_pull(pull: Sequence[Row], push: Sequence[Row]) -> Estimate | None:
    """The rate with push divided by that without, within each repeat."""
    return ratio_to({run["repeat"]: run for run in pull}, push, "pages_per_s")
