"""How local the faults of a run are, and how much runs have in common: what a prefetcher can make use of.

Faults are taken in the order of their times. Which page is next to which is a matter of one vCPU: its faults follow each other,
those of different vCPUs are interleaved by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from results.store.dataset import DataSet
from results.store.trace_file import Trace
from results.summaries.trace import trace_of, whole

STRIDES = 3
"""Strides that are named, the most frequent first."""
BURST_GAP_NS = 100_000
"""Faults that follow each other within this time are one burst."""
GROWTH = (10, 25, 50, 75, 90, 100)
"""Per cent of the working set, for the times at which a run had touched so much of it."""
CURVE = 64
MOST_COMPARED = 64


@dataclass(frozen=True)
class Locality:
    """Of one run. `next_share`: of the faults of a vCPU after its first, those on the page after the one before; `strides`:
    (pages, share) of the other steps; `interleaved_next_share`: the same of all faults of the run together.

    `bursts`, `burst_faults` (mean), `longest_burst`: None without times. `growth_ns`: when the run had touched GROWTH per cent of
    its pages; `curve`: (share of the time, share of the pages), both empty without times.
    """

    run_id: str
    faults: int
    pages: int
    next_share: float | None
    strides: tuple[tuple[int, float], ...]
    interleaved_next_share: float | None
    bursts: int | None
    burst_faults: float | None
    longest_burst: int | None
    growth_ns: tuple[int, ...]
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Overlap:
    """Of the pages of several runs: Jaccard index of each two (common pages / pages of either), and the pages of all of them as a
    share of those of any."""

    runs: int
    least: float
    median: float
    greatest: float
    common_share: float


def locality_of(trace: Trace, run_id: str = "") -> Locality:
    """The measures of one trace."""
    page = trace.page.astype(np.int64)
    steps = np.concatenate([np.diff(page[mine]) for mine in _by_vcpu(trace)] or [np.empty(0, np.int64)])
    together = np.diff(page)
    first = np.sort(np.unique(page, return_index=True)[1])
    bursts = _bursts(trace.time_ns)
    return Locality(
        run_id=run_id,
        faults=len(page),
        pages=len(first),
        next_share=_share(steps == 1),
        strides=_strides(steps),
        interleaved_next_share=_share(together == 1),
        bursts=None if bursts is None else len(bursts),
        burst_faults=None if bursts is None else float(np.mean(bursts)),
        longest_burst=None if bursts is None else int(bursts.max()),
        growth_ns=_growth(trace.time_ns, first),
        curve=_curve(trace.time_ns, first),
    )


def overlap_of(page_sets: Sequence[npt.NDArray[Any]]) -> Overlap | None:
    """What the pages of at least two runs have in common; of more than MOST_COMPARED the first."""
    sets = [np.unique(pages) for pages in page_sets[:MOST_COMPARED] if len(pages)]
    if len(sets) < 2:
        return None
    size = 1 + max(int(pages[-1]) for pages in sets)
    marked = np.zeros((len(sets), size), np.bool_)
    for row, pages in zip(marked, sets, strict=True):
        row[pages] = True
    indices = [float(np.count_nonzero(a & b) / np.count_nonzero(a | b)) for a, b in combinations(marked, 2)]
    common = float(np.count_nonzero(marked.all(axis=0)) / np.count_nonzero(marked.any(axis=0)))
    return Overlap(len(sets), min(indices), float(np.median(indices)), max(indices), common)


def localities(dataset: DataSet, runs: Sequence[Mapping[str, Any]]) -> tuple[list[Locality], Overlap | None]:
    """Of the first round of each run, all of them `comparable`, and what their pages have in common."""
    found: list[Locality] = []
    pages: list[npt.NDArray[Any]] = []
    for run in runs:
        trace = trace_of(dataset, run["run_id"], run=run)
        found.append(locality_of(trace, run["run_id"]))
        if len(pages) < MOST_COMPARED:
            pages.append(np.unique(trace.page))
    return found, overlap_of(pages)


def comparable(run: Mapping[str, Any]) -> bool:
    """Whether the order of the run's faults is known, every one of them."""
    return bool(run["fault_records"]) and whole(run) and (run["guests"] or 1) == 1


def _by_vcpu(trace: Trace) -> Iterator[npt.NDArray[np.intp]]:
    """Indices of the faults of each vCPU."""
    if not len(trace.vcpu):
        yield np.arange(len(trace))
        return
    order = np.argsort(trace.vcpu, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(trace.vcpu[order])) + 1)


def _share(chosen: npt.NDArray[np.bool_]) -> float | None:
    return float(np.count_nonzero(chosen) / len(chosen)) if len(chosen) else None


def _strides(steps: npt.NDArray[np.int64]) -> tuple[tuple[int, float], ...]:
    values, counts = np.unique(steps[steps != 1], return_counts=True)
    most = np.argsort(-counts, kind="stable")[:STRIDES]
    return tuple((int(values[at]), float(counts[at] / len(steps))) for at in most if counts[at] > 1)


def _bursts(times: npt.NDArray[np.int64]) -> npt.NDArray[np.intp] | None:
    """How many faults each burst has."""
    if not len(times):
        return None
    ends = np.flatnonzero(np.diff(times) > BURST_GAP_NS) + 1
    return np.diff(np.concatenate(([0], ends, [len(times)])))


def _growth(times: npt.NDArray[np.int64], first: npt.NDArray[np.intp]) -> tuple[int, ...]:
    if not len(times):
        return ()
    return tuple(int(times[first[-(-len(first) * percent // 100) - 1]]) for percent in GROWTH)


def _curve(times: npt.NDArray[np.int64], first: npt.NDArray[np.intp]) -> tuple[tuple[float, float], ...]:
    if not len(times) or not times[-1]:
        return ()
    at = np.unique(np.linspace(0, len(first) - 1, CURVE).astype(int))
    return tuple((float(times[first[number]] / times[-1]), float((number + 1) / len(first))) for number in at)
