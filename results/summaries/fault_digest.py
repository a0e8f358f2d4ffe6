"""Digests of the faults of a run, by kind: computed in one pass, kept in some tens of KiB a run.

Everything that is shown of faults is added up from these, so that a data set may hold more faults than fit into memory. Only the
latencies of one run at a time are held whole, in 4 bytes each, for their exact percentiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from results.derive import histogram
from results.derive.quantiles import Quantiles
from results.derive.stages import PARTS, parts
from results.schema import STAGES_NS
from results.statistics.percentiles import P999_FROM
from results.store.dataset import DataSet

PER_MILLE = (500, 990, 999)
"""Ranks of the exact percentiles that are kept."""

_COLUMNS = ("kind", "outcome", *STAGES_NS)
_THREADS = 2


def _counts() -> npt.NDArray[np.int64]:
    return np.zeros(histogram.BINS, np.int64)


@dataclass
class FaultDigest:
    """Faults of one kind, of one run or of several. Times in ns.

    `finished`: those with a latency; only they are in what follows. `part_ns`: summed parts of `results.derive.stages`; `slow_*`:
    the same of the slowest hundredth, each run's own p99 being the limit. `latency`, `open_latency`: histograms, from the touch
    and from when it should have been. `exact`: per mille -> latency by run, in the order of the runs.
    """

    faults: int = 0
    finished: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    part_ns: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(PARTS), np.int64))
    slow: int = 0
    slow_part_ns: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(PARTS), np.int64))
    latency: npt.NDArray[np.int64] = field(default_factory=_counts)
    open_latency: npt.NDArray[np.int64] = field(default_factory=_counts)
    exact: dict[int, list[int]] = field(default_factory=lambda: {rank: [] for rank in PER_MILLE})

    @property
    def mean_part_ns(self) -> list[float]:
        """Mean of each part; they sum to the mean latency."""
        return [float(ns) / self.finished for ns in self.part_ns] if self.finished else [0.0] * len(PARTS)

    @property
    def mean_slow_part_ns(self) -> list[float]:
        """The same of the slowest hundredth."""
        return [float(ns) / self.slow for ns in self.slow_part_ns] if self.slow else [0.0] * len(PARTS)

    def exact_median(self, rank: int) -> float | None:
        """The median over runs of their exact percentiles at `rank` thousandths; None where one of the runs has none."""
        return median(self.exact[rank]) if len(self.exact[rank]) == len(self.exact[PER_MILLE[0]]) > 0 else None

    def pooled(self, rank: int) -> float | None:
        """The percentile at `rank` thousandths of the faults of all runs together, from the histogram: at most 1.6 % too high.
        None without faults, and at 999 of fewer than P999_FROM."""
        if not self.finished or (rank >= 999 and self.finished < P999_FROM):
            return None
        wanted = max(1, -(-self.finished * rank // 1000))
        return float(histogram.edges()[1 + int(np.searchsorted(np.cumsum(self.latency), wanted))])

    def add(self, other: FaultDigest) -> None:
        """Take in the faults of `other`."""
        self.faults += other.faults
        self.finished += other.finished
        self.outcomes.update(other.outcomes)
        self.part_ns += other.part_ns
        self.slow += other.slow
        self.slow_part_ns += other.slow_part_ns
        self.latency += other.latency
        self.open_latency += other.open_latency
        for rank, values in other.exact.items():
            self.exact[rank] += values


Digests = dict[str, FaultDigest]
"""By kind."""


def digest_of_run(batches: Iterable[pa.RecordBatch], slow_from_ns: int | None) -> Digests:
    """Digest batches of `faults` of one run; `slow_from_ns`: its 99th percentile, None where it has none."""
    found: Digests = {}
    latencies: dict[str, Quantiles] = {}
    for batch in batches:
        kinds, kind_names = _codes(batch.column("kind"))
        outcomes, outcome_names = _codes(batch.column("outcome"))
        times = {name: batch.column(name).fill_null(0).to_numpy() for name in STAGES_NS}
        for code, kind in enumerate(kind_names):
            mine = kinds == code
            if not mine.any():
                continue
            whole = bool(mine.all())
            its_times = times if whole else {name: values[mine] for name, values in times.items()}
            digest = found.setdefault(kind, FaultDigest())
            counted = np.bincount(outcomes if whole else outcomes[mine], minlength=len(outcome_names))
            digest.outcomes.update({name: int(n) for name, n in zip(outcome_names, counted, strict=True) if n})
            digest.faults += int(counted.sum())
            _add_times(digest, latencies.setdefault(kind, Quantiles()), its_times, slow_from_ns)
    for kind, quantiles in latencies.items():
        for rank in PER_MILLE:
            value = quantiles.per_mille(rank)
            if value is not None and (rank < 999 or len(quantiles) >= P999_FROM):
                found[kind].exact[rank].append(value)
    return found


def digests(dataset: DataSet, runs: Sequence[Mapping[str, Any]]) -> Iterator[Digests]:
    """The digests of rows of `runs`, in their order, two runs at a time."""

    def one(run: Mapping[str, Any]) -> Digests:
        batches = dataset.batches_of_run("faults", run["run_id"], run["sweep_id"], _COLUMNS)
        return digest_of_run(batches, run["latency_p99_ns"])

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(one, runs)


def _add_times(
    digest: FaultDigest, latencies: Quantiles, times: Mapping[str, npt.NDArray[np.int64]], slow_from_ns: int | None
) -> None:
    done = (times["raised_ns"] != 0) & (times["resumed_ns"] != 0)
    if not done.all():
        times = {name: values[done] for name, values in times.items()}
    latency = times["resumed_ns"] - times["raised_ns"]
    digest.finished += len(latency)
    digest.latency += histogram.count(latency)
    latencies.add(latency)
    slow = latency >= slow_from_ns if slow_from_ns is not None else np.zeros(len(latency), np.bool_)
    digest.slow += int(np.count_nonzero(slow))
    for number, ns in enumerate(parts(times)):
        digest.part_ns[number] += ns.sum()
        digest.slow_part_ns[number] += ns[slow].sum()
    opened = times["intended_ns"] != 0
    if opened.any():
        digest.open_latency += histogram.count((times["resumed_ns"] - times["intended_ns"])[opened])


def _codes(column: pa.DictionaryArray) -> tuple[npt.NDArray[np.int64], list[str]]:
    return column.indices.to_numpy(), column.dictionary.to_pylist()
