"""The tables of the experiments, from runs made by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from results.app import main
from results.questions import answer, names
from results.statistics.published import PAGING_RATE
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.working_set import working_set
from results.tables.answer import Answer
from tests.results.rows import KINDS, OUTCOMES, faults, run_row, store, vcpu_rows

PAGES = 16384


def columns(answered: Answer) -> dict[str, list[str]]:
    return {head: [row[number] for row in answered.rows] for number, head in enumerate(answered.heads)}


@pytest.fixture
def dataset(tmp_path: Path) -> DataSet:
    return DataSet.open(str(tmp_path / "dataset"))


def test_an_unknown_question_is_answered_with_those_there_are(dataset: DataSet) -> None:
    with pytest.raises(DataSetError, match=r"there is no question weather: use one of .*paging_rate"):
        answer("weather", dataset)


def test_every_question_says_which_command_measures_what_it_lacks(dataset: DataSet) -> None:
    for name in names():
        with pytest.raises(DataSetError, match=f"loadgen experiment={name}"):
            answer(name, dataset)


def test_the_default_sweep_is_answered_with_rates_scaling_and_speed_ups(dataset: DataSet) -> None:
    for repeat, slower in enumerate((1.0, 1.1, 1.2)):
        for vcpus, seconds in ((1, 4.0), (4, 2.0)):
            for strategy, times in (("uffd_wait", 1.0), ("no_uffd_wait", 4.0)):
                name, took_s = f"{strategy}{vcpus}{repeat}", seconds * slower / times
                store(dataset, name, strategy=strategy, vcpus=vcpus, repeat=repeat, seconds=took_s, trusted=True)
    answered = answer("default", dataset)
    table = columns(answered)
    assert table["strategy"] == ["uffd_wait", "no_uffd_wait"]
    assert (table["1 vCPU"], table["4 vCPUs"]) == (["227.3", "909.1"], ["454.5", "1818"])
    assert (table["4 / 1"], table["x uffd_wait"]) == (["2.00", "2.00"], ["1.00", "4.00"])
    assert answered.keys == 4 and not any("flagged" in note or "judged" in note for note in answered.noise)


def test_post_copy_is_answered_for_each_round_trip_with_and_without_push(dataset: DataSet) -> None:
    for repeat in (0, 1):
        for push, seconds in ((False, 4.0), (True, 1.0)):
            brought = {"fetched_on_demand": 10, "fetched_pushed": 90 if push else 0}
            remote = {"source": "remote", "source_rtt_us": 200.0, "source_push": push, "repeat": repeat}
            store(dataset, f"{push}{repeat}", seconds=seconds, **remote, **brought)
    table = columns(answer("postcopy_rtt", dataset))
    assert (table["rtt us"], table["pull kpages/s"], table["push kpages/s"]) == (["200"], ["250.0"], ["1000"])
    assert (table["push / pull"], table["pages asked"], table["pages pushed"]) == (["4.00"], ["10"], ["90"])


def test_rows_of_flagged_runs_are_marked_and_can_be_left_out(dataset: DataSet) -> None:
    store(dataset, "quiet", trusted=True, seconds=1.0)
    store(dataset, "noisy", trusted=False, seconds=9.0, repeat=1, distrust="status poll late (0.8 s)")
    store(dataset, "unknown", trusted=None, seconds=9.0, repeat=2)
    marked = answer("default", dataset)
    assert columns(marked)["noisy"] == ["1 of 3"]
    assert [note.partition(";")[0] for note in marked.noise if "judged" in note or "flagged" in note] == [
        "flagged as noisy: 1 of 3 runs: status poll late (1)",
        "not judged: 1 of 3 runs",
    ]
    left = answer("default", dataset, trusted_only=True)
    assert columns(left)["4 vCPUs"] == ["1000"] and "noisy" not in left.heads


def test_trusted_only_names_how_many_runs_it_leaves_out_when_none_is_left(dataset: DataSet) -> None:
    store(dataset, "noisy", trusted=False)
    store(dataset, "unknown", trusted=None, repeat=1)
    with pytest.raises(DataSetError, match="leaves none of 2 runs: 1 are flagged as noisy, 1 were not judged"):
        answer("default", dataset, trusted_only=True)


def test_the_paging_rate_stands_beside_the_published_one(dataset: DataSet) -> None:
    for repeat, seconds in enumerate((2.0, 4.0, 8.0)):
        for strategy, times in (("uffd_wait", 1.0), ("no_uffd_wait", 3.0)):
            store(
                dataset,
                f"{strategy}{repeat}",
                repeat=repeat,
                seconds=seconds / times,
                strategy=strategy,
                vcpus=4,
                pages=PAGES,
            )
    table = columns(answer("paging_rate", dataset))
    assert table["vcpus"] == [str(vcpus) for vcpus in PAGING_RATE]
    four = table["vcpus"].index("4")
    published = (table["published wait"][four], table["published exit"][four], table["published exit / wait"][four])
    assert published == (
        "210",
        "809",
        "3.85",
    )
    assert (table["uffd_wait"][four], table["no_uffd_wait"][four], table["no_uffd_wait / wait"][four]) == (
        "250.0",
        "750.0",
        "3.00",
    )
    assert table["MiB a vCPU"][four] == "16*"
    assert table["uffd_wait"].count("-") == len(PAGING_RATE) - 1


def test_engines_are_never_mixed_in_a_paging_rate(dataset: DataSet) -> None:
    for engine, seconds in (("thread", 1.0), ("kvm", 4.0)):
        store(dataset, engine, engine=engine, seconds=seconds, strategy="uffd_wait", vcpus=2, pages=PAGES)
    table = columns(answer("paging_rate", dataset))
    assert dict(zip(table["engine"], table["uffd_wait"], strict=True)) == {"thread": "1000", "kvm": "250.0"}
    assert table["vcpus"] == ["2", "2"] and table["published wait"] == ["191", "191"]


def test_less_memory_than_published_is_said_below_the_table(dataset: DataSet) -> None:
    store(dataset, "large", vcpus=1, pages=PAGES)
    assert not any("less memory" in note for note in answer("paging_rate", dataset).notes)
    store(dataset, "small", vcpus=2, pages=PAGES)
    assert any("* less memory than the 64 MiB a vCPU" in note for note in answer("paging_rate", dataset).notes)


def test_the_published_rates_peak_at_four_vcpus_and_fall() -> None:
    waiting = [rate.wait_kpages_per_s for rate in PAGING_RATE.values()]
    assert max(waiting) == waiting[2]
    assert math.isclose(PAGING_RATE[256].exit_to_wait, 111.4, abs_tol=0.1)


def test_the_command_prints_an_answer(dataset: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    store(dataset, "one", vcpus=1, pages=PAGES)
    assert main(["answer", "paging_rate", dataset.uri]) == 0
    assert "256-core" in capsys.readouterr().out
    assert main(["answer", "weather", dataset.uri]) == 2
    assert "there is no question weather" in capsys.readouterr().err


def test_the_extra_trip_of_a_swapped_page_is_shown_raw_and_net_with_the_share_where_the_strategies_cross(
    dataset: DataSet,
) -> None:
    for swapped, trip_s in ((0, 1.0), (500_000, 2.0), (1_000_000, 4.0)):
        for repeat in range(6):
            common = {"repeat": repeat, "pages": 1_000_000, "swapped_pages": swapped, "memory_type": "anon", "vcpus": 1}
            store(dataset, f"stays{swapped}-{repeat}", strategy="no_uffd_wait", seconds=1.5, **common)
            exits = {"made": {"probes_missed": 1_000_000}, "emulated_exit_ns": 500.0}
            store(dataset, f"trips{swapped}-{repeat}", strategy="no_slow_gup", seconds=trip_s, **common, **exits)
    answered = answer("slow_gup_trip", dataset)
    table = columns(answered)
    assert table["swapped share"] == ["0.00", "0.50", "1.00"]
    assert table["no_slow_gup"] == ["1000", "500.0", "250.0"]
    assert table["no_slow_gup net"] == ["2000", "666.7", "285.7"]
    assert table["extra ns a fault"] == ["-500", "500", "2500"]
    assert table["extra ns a fault net"] == ["-1000", "0", "2000"]
    [crossing] = [note for note in answered.notes if note.startswith("raw:")]
    # The ratio falls from 1.5 to 0.75 over the first half: it is 1 where log(1.5) of log(2) is spent.
    assert crossing == f"raw: no_slow_gup falls behind no_uffd_wait at a share of about {0.5 * math.log(1.5) / math.log(2):.2f}"


def test_what_a_trip_costs_net_is_a_bracket_of_both_strategies(dataset: DataSet) -> None:
    costs = {"emulated_exit_ns": 2000.0, "emulated_slow_gup_ns": 500.0, "emulated_entry_ns": 0.0}
    common = {"pages": 1_000_000, "swapped_pages": 1_000_000, "memory_type": "anon", "engine": "thread", **costs}
    store(dataset, "trips", strategy="no_slow_gup", seconds=5.0, made={"probes_missed": 500_000}, **common)  # 4 s to 4.25 s
    store(dataset, "stays", strategy="no_uffd_wait", seconds=4.0, made={"signals": 500_000}, **common)  # 3 s to 3.25 s
    assert columns(answer("slow_gup_trip", dataset))["extra ns a fault net"] == ["750..1250"]


def test_swapped_pages_of_real_vcpus_stand_beside_those_of_threads_and_without_the_extra_trip(dataset: DataSet) -> None:
    threads = {"no_slow_gup": 4.0, "no_uffd_wait": 2.0, "uffd_wait": 4.0}
    for engine, strategies in {"thread": threads, "kvm": {"no_uffd_wait": 5.0, "uffd_wait": 8.0}}.items():
        for strategy, seconds in strategies.items():
            for swapped in (0, 1_000_000):
                common = {"pages": 1_000_000, "swapped_pages": swapped, "memory_type": "anon", "engine": engine}
                store(dataset, f"{engine}-{strategy}-{swapped}", strategy=strategy, seconds=seconds, **common)
    answered = answer("slow_gup_trip", dataset)
    table = columns(answered)
    assert table["engine"] == ["kvm", "kvm", "thread", "thread"]
    assert table["swapped share"] == ["0.00", "1.00"] * 2
    assert table["uffd_wait"] == ["125.0", "125.0", "250.0", "250.0"]
    assert table["no_uffd_wait"] == ["200.0", "200.0", "500.0", "500.0"]
    assert table["no_slow_gup"] == ["-", "-", "250.0", "250.0"]
    assert table["extra ns a fault"] == ["-", "-", "2000", "2000"]
    assert [note for note in answered.notes if note.startswith("engine kvm ran without no_slow_gup, which needs an exit")]
    assert [note for note in answered.notes if note.startswith("engine thread, raw: no_slow_gup and no_uffd_wait do not cross")]


def test_real_vcpus_alone_answer_what_swapped_pages_cost_and_one_strategy_alone_does_not(dataset: DataSet) -> None:
    common = {"pages": 1_000_000, "swapped_pages": 500_000, "engine": "kvm"}
    store(dataset, "stays", strategy="no_uffd_wait", **common)
    with pytest.raises(DataSetError, match="loadgen experiment=slow_gup_trip_kvm"):
        answer("slow_gup_trip", dataset)
    store(dataset, "waits", strategy="uffd_wait", seconds=4.0, **common)
    answered = answer("slow_gup_trip", dataset)
    [row] = answered.rows
    assert row == ("kvm", "0.50", "500.0", "500.0", "0.0", "0.0", "250.0", "250.0", "0.0", "0.0", "-", "-")
    assert len(answered.notes) == 4


MS = 1_000_000
START = 5_000_000_000


def restored(
    dataset: DataSet,
    run_id: str,
    *,
    marks: list[list[tuple[int, int, int]]],
    passes: list[list[int]],
    longest_ms: int = 0,
    prefetched: tuple[tuple[int, int], ...] = (),
    **values: object,
) -> None:
    """Store a run of one vCPU a list in `marks`: (ms after the common start, accesses, pages)."""
    vcpus = [
        {
            "vcpu": number,
            "start_ns": START,
            "end_ns": START + passes[number][-1] * MS,
            "pages_resolved": one[-1][2],
            "mark_ns": [START + at * MS for at, _, _ in one],
            "mark_accesses": [accesses for _, accesses, _ in one],
            "mark_pages": [pages for _, _, pages in one],
            "pass_end_ns": [START + at * MS for at in passes[number]],
            "longest_fault_ns": longest_ms * MS,
        }
        for number, one in enumerate(marks)
    ]
    row = run_row(
        pages_resolved=sum(one[-1][2] for one in marks),
        prefetch_mark_ns=[START + at * MS for at, _ in prefetched],
        prefetch_mark_pages=[pages for _, pages in prefetched],
        **values,
    )
    with dataset.writer(run_id, "sweep-1") as writer:
        writer.commit(row, vcpus, [])


def test_a_restore_is_timed_to_the_first_touch_and_to_each_share_of_its_pages(dataset: DataSet) -> None:
    marks = [[(10, 1, 1), (20, 50, 50), (40, 100, 100)], [(12, 1, 1), (60, 100, 100)]]
    restored(dataset, "one", marks=marks, passes=[[40, 50], [60, 80]], longest_ms=7, prefetch="none")
    [row] = answer("restore", dataset).rows
    table = dict(zip(answer("restore", dataset).heads, row, strict=True))
    assert (table["first touch ms"], table["longest stall ms"]) == ("10.00", "7.00")
    assert (table["50 % ms"], table["90 % ms"], table["100 % ms"]) == ("40.00", "60.00", "60.00")
    assert table["second touch ns"] == "150000"  # 30 ms over 200 accesses
    assert table["on demand"] == "200"


def test_pages_of_the_stream_are_resident_and_counted_apart(dataset: DataSet) -> None:
    marks = [[(10, 1, 1), (40, 100, 20)]]
    brought = ((5, 40), (9, 80))
    restored(dataset, "stream", marks=marks, passes=[[40]], prefetched=brought, prefetch="order", prefetched_pages=80)
    [row] = answer("restore", dataset).rows
    table = dict(zip(answer("restore", dataset).heads, row, strict=True))
    assert (table["50 % ms"], table["90 % ms"]) == ("9.00", "40.00")
    assert (table["on demand"], table["prefetched"], table["second touch ns"]) == ("20", "80", "-")


def test_a_page_that_is_only_read_ahead_is_not_resident(dataset: DataSet) -> None:
    marks = [[(10, 1, 1), (40, 100, 100)]]
    restored(dataset, "file", marks=marks, passes=[[40]], prefetched=((5, 100),), memory_type="file", strategy="file_map")
    [row] = answer("restore", dataset).rows
    assert dict(zip(answer("restore", dataset).heads, row, strict=True))["50 % ms"] == "40.00"


def test_a_run_without_stamps_answers_nothing_about_a_restore(dataset: DataSet) -> None:
    store(dataset, "old")
    with pytest.raises(DataSetError, match="no run has stamps of its progress"):
        answer("restore", dataset)


def test_sharing_is_compared_with_what_shares_most(dataset: DataSet) -> None:
    for per_vmm, uffds, seconds in ((8, 1, 4.0), (8, 2, 2.0), (1, 1, 1.0)):
        store(dataset, f"{per_vmm}-{uffds}", seconds=seconds, vcpus=8, vcpus_per_vmm=per_vmm, uffds_per_vmm=uffds, readers=1)
    table = columns(answer("sharing", dataset))
    assert list(zip(table["vcpus per vmm"], table["uffds per vmm"], table["uffd_wait x base"], strict=True)) == [
        ("8", "1", "1.00"),
        ("8", "2", "2.00"),
        ("1", "1", "4.00"),
    ]


def test_readers_are_shown_with_what_they_cost(dataset: DataSet) -> None:
    for wait, seconds in (("poll", 2.0), ("spin", 1.0)):
        threads = [{"role": "reader", "number": number, "user_ns": 10**9, "system_ns": 0, "cpus": [0]} for number in (0, 1)]
        with dataset.writer(wait, "sweep-1") as writer:
            row = run_row(wait=wait, readers_per_uffd=2, reads=5, reads_empty=20)
            writer.commit(row, vcpu_rows(seconds), threads)
    table = columns(answer("readers", dataset))
    assert (table["wait"], table["kpages/s"]) == (["poll", "spin"], ["500.0", "1000"])
    assert table["reader CPUs"] == ["1.00", "2.00"]


def test_fault_around_is_compared_with_one_page_in_the_same_order_and_with_populating_everything(dataset: DataSet) -> None:
    for order, base in (("sequential", 1.0), ("permutation", 2.0)):
        for pages in (1, 16):
            options = json.dumps({"fault_around_pages": pages})
            store(dataset, f"{order}{pages}", seconds=base / pages, access_order=order, strategy_options=options)
    marks = [[(8, 0, PAGES), (10, 1, PAGES)]]
    restored(
        dataset,
        "all",
        marks=marks,
        passes=[[12]],
        strategy="eager",
        strategy_options="{}",
        access_order="sequential",
        pages=PAGES,
    )
    answered = answer("fault_around", dataset)
    table = columns(answered)
    assert list(zip(table["access order"], table["fault around pages"], table["uffd_wait x base"], strict=True)) == [
        ("permutation", "1", "1.00"),
        ("permutation", "16", "16.00"),
        ("sequential", "1", "1.00"),
        ("sequential", "16", "16.00"),
    ]
    assert any("one MADV_POPULATE_WRITE over everything" in note and "2048 thousand" in note for note in answered.notes)


def test_a_working_set_is_each_page_once_in_the_order_of_first_touch(dataset: DataSet, tmp_path: Path) -> None:
    with dataset.writer("one", "sweep-1") as writer:
        records = faults([10, 10, 10, 10])
        records["page"] = [7, 3, 7, 5]
        writer.faults(KINDS, OUTCOMES).add(np.zeros(4, np.uint16), records)
        writer.commit(run_row(sample_every=1), vcpu_rows(1.0), [])
    store(dataset, "sampled", sample_every=2, latencies_ns=[5])
    store(dataset, "none", sample_every=1)
    assert working_set(dataset, "one") == [7, 3, 5]
    out = tmp_path / "pages"
    assert main(["working-set", "--run", "one", "--out", str(out), dataset.uri]) == 0
    assert out.read_text() == "7\n3\n5\n"
    for run_id, refusal in (("unknown", "there is no run unknown"), ("sampled", "kept only some"), ("none", "had no fault")):
        with pytest.raises(DataSetError, match=refusal):
            working_set(dataset, run_id)
