"""Locality as tables: a row a run, and what the runs have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from results.summaries.locality import BURST_GAP_NS, GROWTH, MOST_COMPARED, Locality, Overlap
from results.summaries.prefetch import Prefetched
from results.tables.layout import Table

HEADS = (
    "run",
    "of",
    "faults",
    "pages",
    "next page",
    "strides",
    "next page, all vCPUs",
    "bursts",
    "faults a burst",
    "longest burst",
)
SHOWN = (50, 90, 100)
"""Per cent of the working set whose times have a column."""


def locality_table(found: Sequence[Locality], named: Mapping[str, str]) -> Table:
    """`named`: what is shown of each run beside its id."""
    heads = [*HEADS, *(f"{percent}% touched, ms" for percent in SHOWN)]
    return Table(heads, [(one.run_id, named.get(one.run_id, "-"), *_cells(one)) for one in found], keys=2)


def locality_notes(overlap: Overlap | None, left_out: int) -> Iterator[str]:
    """How the columns are to be read, and the overlap."""
    if overlap is not None:
        yield (
            f"pages of {overlap.runs} runs: Jaccard index of two {overlap.least:.3f} to {overlap.greatest:.3f}, median "
            f"{overlap.median:.3f}; {overlap.common_share:.1%} of the pages of any are common to all"
        )
    if left_out:
        yield f"{left_out} runs left out: of several guests, without a fault, or with only some of their faults kept"
    yield "next page: share of a vCPU's faults on the page after its fault before; strides: its other steps, in pages"
    yield f"bursts: faults that follow each other within {BURST_GAP_NS / 1000:.0f} us; touched: share of the run's own pages"
    yield f"of the first round of each run; the overlap is of at most {MOST_COMPARED} runs"


def _cells(one: Locality) -> Iterator[str]:
    yield str(one.faults)
    yield str(one.pages)
    yield _percent(one.next_share)
    yield " ".join(f"{stride:+d}:{share:.0%}" for stride, share in one.strides) or "-"
    yield _percent(one.interleaved_next_share)
    yield "-" if one.bursts is None else str(one.bursts)
    yield "-" if one.burst_faults is None else f"{one.burst_faults:.1f}"
    yield "-" if one.longest_burst is None else str(one.longest_burst)
    for percent in SHOWN:
        yield f"{one.growth_ns[GROWTH.index(percent)] / 1e6:.2f}" if one.growth_ns else "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def prefetch_notes(found: Iterable[Prefetched | None]) -> Iterator[str]:
    """A line a run with a prefetcher."""
    for one in found:
        if one is None:
            continue
        untouched = "" if one.untouched is None else f", {one.untouched} of them never touched"
        yield (
            f"{one.run_id}: {one.brought} pages prefetched{untouched}; {one.before} touched before they came; a fault took "
            f"{_us(one.while_ns)} while the prefetcher ran, {_us(one.after_ns)} afterwards (median, p99)"
        )


def _us(both: tuple[float, float] | None) -> str:
    return "-" if both is None else f"{both[0] / 1000:.1f} and {both[1] / 1000:.1f} us"
