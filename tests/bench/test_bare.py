"""The bench's own instruments: the bare loops do what they are asked, and the statistics say what the numbers say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import needs
from tests.bench.bare import BareShape, Waiting, compile_bare
from tests.bench.pairs import Interval, interleave, interval, ratios
from tests.bench.process_tree import cpu_seconds, quietest

LOOPS = ("bare_null", "bare_uffd_wait", "bare_no_uffd_wait", "bare_no_slow_gup", "bare_no_exit")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bare")


@needs.ROOT
@pytest.mark.parametrize("processes", (False, True), ids=("threads", "processes"))
@pytest.mark.parametrize("name", LOOPS)
def test_a_bare_loop_touches_every_page_of_every_pass_and_reads_no_wrong_word(name: str, processes: bool, build: Path) -> None:
    shape = BareShape(pages=1000, vcpus=3, readers=2, processes=processes)
    with Waiting(compile_bare(name, build), shape.arguments(passes=3)) as loop:
        found = [loop.measure() for _ in range(3)]
    assert [one["pages"] for one in found] == [1000, 1000, 1000]
    assert [one["wrong_words"] for one in found] == [0, 0, 0]
    assert all(one["pages_per_s"] == pytest.approx(1000 / one["seconds"], rel=1e-3) for one in found)


@needs.ROOT
@pytest.mark.usefixtures("zram")
def test_the_bare_loop_on_swapped_pages_swaps_them_out_before_every_pass_and_reads_no_wrong_word(build: Path) -> None:
    with Waiting(compile_bare("bare_no_slow_gup_swapped", build), BareShape(pages=1000, vcpus=3).arguments(passes=2)) as loop:
        found = [loop.measure() for _ in range(2)]
    assert [(one["pages"], one["wrong_words"]) for one in found] == [(1000, 0)] * 2


@needs.KVM
@pytest.mark.parametrize("idle_exits", ("0", "1"))
def test_the_bare_kvm_loop_has_its_guests_read_every_page_of_every_pass(idle_exits: str, build: Path) -> None:
    arguments = [*BareShape(pages=100, vcpus=3).arguments(passes=2), "--idle-exits", idle_exits]
    with Waiting(compile_bare("bare_kvm_no_uffd_wait", build), arguments) as loop:
        assert [loop.measure()["pages"] for _ in range(2)] == [100, 100]


@needs.ROOT
@pytest.mark.parametrize("one_vmm", (False, True), ids=("a process a vCPU", "one process of vCPUs"))
def test_a_bare_loops_readers_can_serve_from_a_process_of_their_own(one_vmm: bool, build: Path) -> None:
    shape = BareShape(pages=1000, vcpus=3, processes=True, readers_apart=True, one_vmm=one_vmm)
    with Waiting(compile_bare("bare_uffd_wait", build), shape.arguments(passes=2)) as loop:
        assert [loop.measure()["pages"] for _ in range(2)] == [1000, 1000]


def test_the_bare_touch_of_mapped_pages_counts_its_accesses(build: Path) -> None:
    with Waiting(compile_bare("null_touch", build), ["512", "10", str(min(os.sched_getaffinity(0)))]) as loop:
        assert loop.measure()["accesses"] == 5120


def test_a_bare_loop_pinned_to_a_cpu_that_is_not_there_is_an_error_and_not_a_hang(build: Path) -> None:
    shape = BareShape(pages=64, vcpu_cpus=(1023,))
    with (
        Waiting(compile_bare("bare_null", build), shape.arguments(passes=1)) as loop,
        pytest.raises(RuntimeError, match="bare_null ended early, status 1"),
    ):
        loop.measure()


def test_a_bare_process_that_fails_ends_the_whole_loop(build: Path) -> None:
    shape = BareShape(pages=64, vcpus=2, vcpu_cpus=(1023,), processes=True)
    with (
        Waiting(compile_bare("bare_null", build), shape.arguments(passes=1)) as loop,
        pytest.raises(RuntimeError, match="bare_null ended early, status 1"),
    ):
        loop.measure()


def test_pairs_alternate_who_goes_first_and_stay_pairs() -> None:
    calls: list[str] = []

    def ours() -> float:
        calls.append("ours")
        return float(len(calls))

    def theirs() -> float:
        calls.append("theirs")
        return float(len(calls))

    left, right = interleave(ours, theirs, 3)
    assert calls == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert (left, right) == ([1.0, 4.0, 5.0], [2.0, 3.0, 6.0])
    assert ratios(left, right) == [1 / 2, 4 / 3, 5 / 6]


def test_the_interval_of_equal_values_is_that_value() -> None:
    assert interval([0.97] * 31) == Interval(0.97, 0.97, 0.97)


def test_the_interval_of_one_to_thirty_one_holds_its_median_and_leaves_its_ends() -> None:
    found = interval([float(i) for i in range(1, 32)])
    assert found.median == 16.0
    # By order statistics, P(Binomial(31, 1/2) <= 9) = 0.015: the 95 % interval of the median is about [10, 22].
    assert 9.0 <= found.low <= 12.0
    assert 20.0 <= found.high <= 23.0


def test_the_interval_of_the_same_values_is_the_same_each_time() -> None:
    values = [0.9, 1.1, 0.95, 1.3, 0.7, 1.0]
    assert interval(values) == interval(values)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="an interval needs at least 2 values, got 1"):
        interval([1.0])


def test_a_bar_is_met_when_the_upper_end_reaches_it_and_not_before() -> None:
    assert Interval(0.93, 0.92, 0.95).reaches(0.95)
    assert not Interval(0.93, 0.92, 0.949).reaches(0.95)


def test_the_quietest_stretch_leaves_out_start_up_and_counts_processes_that_came_later() -> None:
    samples = [(0.0, {1: 0.0}), (1.0, {1: 5.0}), (2.0, {1: 5.1}), (3.0, {1: 5.2, 2: 0.3}), (4.0, {1: 9.0, 2: 0.3})]
    assert quietest(samples, 2.0) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="less than 10 s"):
        quietest(samples, 10)


def test_the_process_tree_holds_this_process_and_its_children_only() -> None:
    tree = cpu_seconds(os.getpid())
    assert os.getpid() in tree
    assert os.getppid() not in tree
    assert tree[os.getpid()] == pytest.approx(sum(os.times()[:2]), abs=0.5)
