"""What a prefetcher was good for: what became of its pages, and what a fault took while it ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from results.store.dataset import DataSet

FAULTS = ("raised_ns", "delivered_ns", "installed_ns", "resumed_ns")


@dataclass(frozen=True)
class Prefetched:
    """Of one run. `before`: pages touched before they came. `while_ns`, `after_ns`: median and p99 of the faults raised
    while the prefetcher ran and afterwards; None without a fault. Of a served VMM: of what a page server sees of them."""

    run_id: str
    brought: int
    untouched: int | None
    before: int
    while_ns: tuple[float, float] | None
    after_ns: tuple[float, float] | None


def prefetched(dataset: DataSet, run: Mapping[str, Any]) -> Prefetched | None:
    """None for a run without a prefetcher."""
    if run["prefetch"] in (None, "none") or run["prefetched_pages"] is None:
        return None
    marks = run["prefetch_mark_ns"]
    batches = dataset.batches_of_run("faults", run["run_id"], run["sweep_id"], FAULTS)
    parts = [[batch.column(name).fill_null(0).to_numpy() for name in FAULTS] for batch in batches]
    raised, delivered, installed, resumed = np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), np.int64)
    seen = raised != 0
    begin, end = np.where(seen, raised, delivered), np.where(seen, resumed, installed)
    done = (begin != 0) & (end != 0)
    early = done & (begin <= (marks[-1] if marks else 0))
    took = end - begin
    return Prefetched(
        run["run_id"],
        run["prefetched_pages"],
        run["prefetch_untouched"],
        (run["prefetch_skipped"] or 0) + (run["prefetch_late"] or 0),
        _percentiles(took[early]),
        _percentiles(took[done & ~early]),
    )


def _percentiles(took: Any) -> tuple[float, float] | None:
    if not len(took):
        return None
    median, p99 = np.percentile(took, (50, 99), method="inverted_cdf")
    return float(median), float(p99)
