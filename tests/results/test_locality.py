"""Locality of traces whose locality is known, against counts made one fault at a time."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from results.app import main
from results.store.dataset import DataSet
from results.store.trace_file import Trace
from results.summaries.locality import BURST_GAP_NS, GROWTH, locality_of, overlap_of
from tests.results.printed import unwrapped
from tests.results.rows import store


def counted(trace: Trace) -> dict[str, object]:
    """The measures, counted one fault at a time."""
    before: dict[int, int] = {}
    steps: list[int] = []
    for vcpu, page in zip(trace.vcpu.tolist() or [0] * len(trace), trace.page.tolist(), strict=True):
        if vcpu in before:
            steps.append(page - before[vcpu])
        before[vcpu] = page
    together = [b - a for a, b in pairwise(trace.page.tolist())]
    bursts, seen, growth = [1], {int(trace.page[0])}, []
    for (a, b), page in zip(pairwise(trace.time_ns.tolist()), trace.page.tolist()[1:], strict=True):
        bursts = [*bursts[:-1], bursts[-1] + 1] if b - a <= BURST_GAP_NS else [*bursts, 1]
        seen.add(page)
    for percent in GROWTH:
        reached: set[int] = set()
        for at, page in zip(trace.time_ns.tolist(), trace.page.tolist(), strict=True):
            reached.add(page)
            if len(reached) * 100 >= percent * len(seen):
                growth.append(at)
                break
    return {
        "pages": len(seen),
        "next_share": steps.count(1) / len(steps),
        "interleaved_next_share": together.count(1) / len(together),
        "bursts": len(bursts),
        "burst_faults": sum(bursts) / len(bursts),
        "longest_burst": max(bursts),
        "growth_ns": tuple(growth),
    }


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_measure_is_what_counting_finds(seed: int) -> None:
    draw = random.Random(seed)
    pages, times, at = [], [], 0
    for _ in range(3000):
        pages.append(pages[-1] + 1 if pages and draw.random() < 0.5 else draw.randrange(400))
        at += draw.choice([500, 20_000, 250_000])
        times.append(at)
    trace = Trace.of({"page": pages, "time_ns": times, "vcpu": [draw.randrange(3) for _ in pages]})
    found = locality_of(trace)
    expected = counted(trace)
    assert found.growth_ns == expected.pop("growth_ns")
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected)


def test_a_sequential_walk_is_all_next_pages_and_a_stride_is_named() -> None:
    walk = locality_of(Trace.of({"page": range(100)}))
    assert (walk.next_share, walk.strides, walk.bursts, walk.growth_ns) == (1.0, (), None, ())
    strided = locality_of(Trace.of({"page": [0, 8, 16, 24, 32, 33, 34, 42]}))
    assert strided.next_share == pytest.approx(2 / 7)
    assert strided.strides == ((8, pytest.approx(5 / 7)),)


def test_vcpus_that_walk_side_by_side_are_sequential_each() -> None:
    pages = [page for pair in zip(range(50), range(1000, 1050), strict=True) for page in pair]
    found = locality_of(Trace.of({"page": pages, "vcpu": [0, 1] * 50}))
    assert found.next_share == 1.0
    assert found.interleaved_next_share == 0.0


def test_overlap_is_the_jaccard_index_of_each_two_and_what_is_common_to_all() -> None:
    sets = [{1, 2, 3, 4}, {3, 4, 5, 6}, {4, 9}]
    found = overlap_of([np.array(sorted(pages)) for pages in sets])
    jaccard = [len(a & b) / len(a | b) for a, b in [(sets[0], sets[1]), (sets[0], sets[2]), (sets[1], sets[2])]]
    assert found is not None
    assert (found.least, found.median, found.greatest) == pytest.approx((min(jaccard), sorted(jaccard)[1], max(jaccard)))
    assert found.common_share == pytest.approx(1 / 7)
    assert overlap_of([np.array([1, 2])]) is None


def test_the_command_prints_a_row_a_run_and_the_overlap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    store(dataset, "run-a", latencies_ns=[100] * 8)
    store(dataset, "run-b", latencies_ns=[100] * 4)
    store(dataset, "run-c", latencies_ns=[100] * 4, sample_every=2)
    assert main(["locality", dataset.uri]) == 0
    out = unwrapped(capsys.readouterr().out)
    assert (
        "pages of 2 runs: Jaccard index of two 0.500 to 0.500, median 0.500; 50.0% of the pages of any are common to all" in out
    )
    assert "1 runs left out" in out
    assert "+2:100%" in out  # two vCPUs take turns
    assert "flagged" not in out
    store(dataset, "run-d", latencies_ns=[100] * 4, repeat=1, trusted=False, distrust="status poll late (0.8 s)")
    assert main(["locality", dataset.uri]) == 0
    out = capsys.readouterr().out
    assert ["run-d", "- !"] in [line.split("  ")[:2] for line in out.splitlines()], out
    assert "!: the run is flagged" in out and "flagged as noisy: 1 of 3 runs" in out


def test_faults_while_a_prefetcher_ran_are_counted_apart_from_those_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    counts = {"prefetched_pages": 9, "prefetch_untouched": 4, "prefetch_skipped": 2, "prefetch_late": 1}
    marks = {"prefetch_mark_ns": [10**15 + 1500], "prefetch_mark_pages": [9]}
    store(dataset, "run-a", latencies_ns=[5000, 7000, 2000, 3000], prefetch="order", **counts, **marks)
    assert main(["locality", dataset.uri]) == 0
    assert (
        "run-a: 9 pages prefetched, 4 of them never touched; 3 touched before they came; a fault took 5.0 and 7.0 us while the "
        "prefetcher ran, 2.0 and 3.0 us afterwards (median, p99)"
    ) in unwrapped(capsys.readouterr().out)


def test_the_command_refuses_runs_whose_order_is_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    store(dataset, "run-a", latencies_ns=[1], records_dropped=3)
    assert main(["locality", dataset.uri]) == 2
    assert "none of 1 runs that are ok kept every fault of one guest" in capsys.readouterr().err
