"""The summary and pivot of a sweep against values computed by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from results.statistics.intervals import Estimate
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.fault_digest import FaultDigest, digests
from results.summaries.pivot import pivot
from results.summaries.summary import NotCounted, SummaryRow, summary
from results.tables.estimates import median_of
from results.tables.summary_table import notes, print_pivot, print_summary, summary_table
from tests.results.printed import lines_of, records, unwrapped
from tests.results.rows import KINDS, OUTCOMES, faults, run_row, store, vcpu_rows


@pytest.fixture
def dataset(tmp_path: Path) -> DataSet:
    """uffd_wait and no_uffd_wait, three repeats, on a machine that gets slower with each of them; and a failed run."""
    dataset = DataSet.open(str(tmp_path))
    for repeat, (base_s, other_s) in enumerate(((1.0, 0.5), (2.0, 0.8), (4.0, 1.0))):
        store(dataset, f"wait-{repeat}", seconds=base_s, repeat=repeat, latencies_ns=[1000, 2000, 3000])
        store(
            dataset,
            f"exit-{repeat}",
            seconds=other_s,
            repeat=repeat,
            strategy="no_uffd_wait",
            strategy_options='{"fault_around_pages": 1, "own": 2}',
            made={"probes_missed": 100_000},
            emulated_exit_ns=1000.0,
            latencies_ns=[500 * (repeat + 1)],
        )
    store(dataset, "exit-3", seconds=0.001, repeat=3, strategy="no_uffd_wait", status="corrupt", reason="page 7 is wrong")
    return dataset


def row_of(dataset: DataSet, strategy: str, **axes: object) -> SummaryRow:
    rows = [
        row
        for row in summary(dataset).rows
        if row.strategy == strategy and all(row.axes[axis] == value for axis, value in axes.items())
    ]
    assert len(rows) == 1
    return rows[0]


def test_ratios_are_paired_by_repeat_before_the_median_is_taken(dataset: DataSet) -> None:
    row = row_of(dataset, "no_uffd_wait")
    # By repeat: 2.0, 2.5 and 4.0. The ratio of the medians would say 1 250 000 / 500 000 = 2.5 as well, so look at net:
    # 100 000 exits of 1 us of each vCPU take off 0.1 s: 1/0.4, 2/0.7 and 4/0.9 times uffd_wait.
    assert row.ratio == Estimate(2.5, 2.0, 4.0, 3)
    assert row.ratio_net is not None and row.ratio_net.low == row.ratio_net.high == pytest.approx(2.0 / 0.7)
    assert row.pages_per_s == Estimate(1_250_000, 1_000_000, 2_000_000, 3)
    assert row.pages_per_s_net is not None and row.pages_per_s_net.low == pytest.approx(1_000_000 / 0.7)
    assert (median_of(row.latencies["latency_p50_ns"]), row.repeats) == (1000, 3)


def test_the_pairing_follows_the_repeat_and_not_the_order_of_rates(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for repeat, (base_s, other_s) in enumerate(((1.0, 4.0), (2.0, 1.0), (4.0, 3.0))):
        store(dataset, f"wait-{repeat}", seconds=base_s, repeat=repeat)
        store(dataset, f"exit-{repeat}", seconds=other_s, repeat=repeat, strategy="no_uffd_wait")
    # By repeat 1/4, 2/1, 4/3: median 4/3. The ratio of the medians would be 2/3.
    assert median_of(row_of(dataset, "no_uffd_wait").ratio) == pytest.approx(4 / 3)


def test_the_baseline_comes_first_and_is_its_own_ratio_of_one(dataset: DataSet) -> None:
    assert [row.strategy for row in summary(dataset).rows] == ["uffd_wait", "no_uffd_wait"]
    assert row_of(dataset, "uffd_wait").ratio == Estimate(1.0, 1.0, 1.0, 3)


def test_runs_that_are_not_ok_count_nowhere_and_are_listed_with_their_reason(dataset: DataSet) -> None:
    assert summary(dataset).not_counted == (NotCounted("exit-3", "no_uffd_wait", "corrupt", "page 7 is wrong"),)
    assert row_of(dataset, "no_uffd_wait").repeats == 3


def test_a_strategy_without_a_baseline_has_no_ratio(dataset: DataSet) -> None:
    store(dataset, "other", strategy="no_uffd_wait", vcpus=8)
    assert row_of(dataset, "no_uffd_wait", vcpus=8).ratio is None


def test_runs_that_differ_in_any_part_of_the_configuration_are_no_repeats(dataset: DataSet) -> None:
    store(dataset, "delayed", seconds=8.0, delay_us=50.0, access_order="zipf")
    assert summary(dataset).axes == ("delay_us", "access_order", "fault_mix", "memory_type", "cores", "vcpus")
    assert row_of(dataset, "uffd_wait", delay_us=50.0).pages_per_s == Estimate(125_000, None, None, 1)
    assert row_of(dataset, "uffd_wait", delay_us=None).repeats == 3


def test_what_only_follows_from_a_shown_axis_is_no_column_of_its_own(dataset: DataSet) -> None:
    store(dataset, "eight", vcpus=8, vcpu_cpus="0,1,0,1,0,1,0,1")
    assert summary(dataset).axes == ("fault_mix", "memory_type", "cores", "vcpus")


def test_hosts_are_never_compared_with_each_other(dataset: DataSet) -> None:
    store(dataset, "elsewhere", strategy="no_uffd_wait", vcpus=8, host="another-host")
    store(dataset, "here", strategy="uffd_wait", vcpus=8)
    assert "host" in summary(dataset).axes
    assert row_of(dataset, "no_uffd_wait", host="another-host").ratio is None


def test_a_sweep_that_is_not_there_is_an_error_with_the_list(dataset: DataSet) -> None:
    with pytest.raises(DataSetError, match="no sweep sweep-9; it has: sweep-1"):
        summary(dataset, "sweep-9")


def test_the_printed_table_is_ascii_and_no_cell_of_it_is_cropped(dataset: DataSet) -> None:
    store(dataset, "long", fault_mix="a_fault_mix_with_a_name_" * 8)
    out = io.StringIO()
    print_summary(summary(dataset, "sweep-1"), out)
    text = out.getvalue()
    assert text.isascii()
    assert "a_fault_mix_with_a_name_" * 8 in text
    assert text.splitlines()[-1] == "not counted: exit-3 no_uffd_wait corrupt: page 7 is wrong"


def test_the_wide_table_has_every_column_and_the_other_one_those_that_fit(dataset: DataSet) -> None:
    wide, narrow = (records(summary_table(summary(dataset, "sweep-1"), wide=wide))[-1] for wide in (True, False))
    assert wide == {
        **{"strategy": "no_uffd_wait", "fault mix": "minor", "memory type": "shmem", "cores": "2", "vcpus": "4", "runs": "3"},
        **{"kpages/s": "1250 (1000..2000)", "x uffd_wait": "2.50 (2.00..4.00)"},
        **{"net": "1429", "net x uffd_wait": "2.86", "CPU us": "0.0", "net CPU us": "-", "p50 us": "1.0", "p99 us": "1.0"},
    }
    assert narrow == {head: cell for head, cell in wide.items() if head != "net x uffd_wait"}


def test_the_table_fits_80_characters(dataset: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    print_summary(summary(dataset), out)
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert out.getvalue().startswith("all rows: fault mix minor, memory type shmem, cores 2, vcpus 4,")


def test_the_999th_thousandth_is_shown_from_10000_faults_on(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    store(dataset, "few", strategy="no_uffd_wait", latencies_ns=[1000] * 9_999)
    store(dataset, "enough", latencies_ns=[1000] * 10_000)
    by_strategy = {row["strategy"]: row["p99.9 us"] for row in records(summary_table(summary(dataset), wide=True))}
    assert by_strategy == {"uffd_wait": "1.0", "no_uffd_wait": "-"}
    cells = pivot(dataset.runs(), "strategy", "vcpus", "latency_p999_ns").cells
    assert [value is None for value in cells.values()] == [False, True]


def test_a_999th_thousandth_is_of_every_repeat_or_of_none(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    store(dataset, "enough", latencies_ns=[1000] * 10_000)
    store(dataset, "few", repeat=1, latencies_ns=[1000] * 100)
    [row] = summary(dataset).rows
    assert row.latencies["latency_p999_ns"] is None and row.latencies["latency_p99_ns"] is not None
    assert list(pivot(dataset.runs(), "strategy", "vcpus", "latency_p999_ns").cells.values()) == [None]
    digest = FaultDigest()
    for one in digests(dataset, dataset.runs()):
        digest.add(one["minor"])
    assert digest.exact_median(999) is None and digest.exact_median(990) == 1000


def test_a_pivot_prints_the_coverage_of_its_least_repeated_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = DataSet.open(str(tmp_path))
    for repeat in range(6):
        store(dataset, f"a-{repeat}", repeat=repeat)
    print_pivot(pivot(dataset.runs(), "strategy", "vcpus", "duration_s"))
    assert "with its exact interval: 96.9% coverage or more, at 6 runs a cell" in unwrapped(capsys.readouterr().out)
    for repeat in range(3):
        store(dataset, f"b-{repeat}", repeat=repeat, vcpus=8)
    print_pivot(pivot(dataset.runs(), "strategy", "vcpus", "duration_s"))
    assert "with its exact interval: 75.0% coverage or more, at 3 runs a cell" in unwrapped(capsys.readouterr().out)


def test_a_baseline_that_ran_with_other_options_only_divides_nothing(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for strategy, around in (("uffd_wait", 2), ("uffd_wait", 4), ("no_uffd_wait", 4), ("no_uffd_wait", 8)):
        config = json.dumps({"strategy": {"name": strategy, "fault_around_pages": around}})
        options = json.dumps({"fault_around_pages": around})
        more = {"strategy": strategy, "config_json": config, "strategy_options": options}
        store(dataset, f"{strategy}-{around}", seconds=2.0 if strategy == "uffd_wait" else 1.0, **more)
    ratios = {(row.strategy, row.axes["strategy_options"]): median_of(row.ratio) for row in summary(dataset).rows}
    assert ratios["no_uffd_wait", '{"fault_around_pages": 8}'] is None
    assert ratios["no_uffd_wait", '{"fault_around_pages": 4}'] == 2.0


def test_a_ratio_to_a_flagged_baseline_is_marked(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    store(dataset, "base", trusted=False, distrust="status poll late (0.8 s)")
    store(dataset, "other", strategy="no_uffd_wait", seconds=1.0, trusted=True)
    summed = summary(dataset)
    assert [row["x uffd_wait"] for row in records(summary_table(summed, wide=False))] == ["1.00", "2.00 !"]
    assert "!: runs of uffd_wait, which the ratio divides by, are flagged" in list(notes(summed))


def test_flagged_runs_are_marked_with_their_reasons_and_runs_not_judged_are_counted(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    store(dataset, "quiet", trusted=True)
    store(
        dataset, "noisy", repeat=1, trusted=False, distrust="other processes used CPUs (1.60 of 2 CPUs); status poll late (0.8 s)"
    )
    store(dataset, "short", strategy="no_uffd_wait", trusted=None)
    summed = summary(dataset)
    assert [row["noisy"] for row in records(summary_table(summed, wide=False))] == ["1 of 2", "-"]
    out = io.StringIO()
    print_summary(summed, out)
    text = unwrapped(out.getvalue())
    assert "flagged as noisy: 1 of 3 runs: other processes used CPUs (1), status poll late (1); --trusted-only leaves" in text
    assert "not judged: 1 of 3 runs" in text
    out = io.StringIO()
    print_pivot(pivot(dataset.runs(), "strategy", "vcpus", "duration_s"), out)
    assert "2.00 !" in out.getvalue() and "!: runs of the cell are flagged" in unwrapped(out.getvalue())


def test_a_pivot_takes_medians_of_ok_runs_and_says_what_its_cells_mix(dataset: DataSet) -> None:
    store(dataset, "eight", vcpus=8, seconds=0.5)
    store(dataset, "delayed", vcpus=8, seconds=2.0, delay_us=50.0)
    table = pivot(dataset.runs(), "strategy", "vcpus", "duration_s")
    assert {cell: median_of(value) for cell, value in table.cells.items()} == {
        ("uffd_wait", 4): 2.0,
        ("no_uffd_wait", 4): 0.8,
        ("uffd_wait", 8): 1.25,
    }
    assert (table.row_values, table.column_values) == (("uffd_wait", "no_uffd_wait"), (4, 8))
    assert table.mixed == ("delay_us",)
    out = io.StringIO()
    print_pivot(table, out)
    assert lines_of(out.getvalue(), "uffd_wait") == [["uffd_wait", "2.00 (1.00..4.00)", "1.25 (0.50..2.00)"]]
    assert out.getvalue().splitlines()[-1] == "cells mix runs that differ in: delay_us"


def test_a_pivot_of_a_column_that_is_missing_or_not_a_number_is_an_error(dataset: DataSet) -> None:
    with pytest.raises(DataSetError, match=r"runs has no column 'speed'; it has: run_id, .*pages_per_s"):
        pivot(dataset.runs(), "strategy", "vcpus", "speed")
    with pytest.raises(DataSetError, match=r"runs\.kernel is not a number \(string\)"):
        pivot(dataset.runs(), "strategy", "vcpus", "kernel")


def test_a_speed_up_whose_interval_includes_1_is_called_inconclusive(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for repeat, other_s in enumerate((1.1, 0.9, 1.05)):
        store(dataset, f"wait-{repeat}", seconds=1.0, repeat=repeat)
        store(dataset, f"exit-{repeat}", seconds=other_s, repeat=repeat, strategy="no_uffd_wait")
    out = io.StringIO()
    print_summary(summary(dataset), out)
    assert records(summary_table(summary(dataset), wide=False))[-1]["x uffd_wait"] == "0.95 (0.91..1.11) ?"
    assert "75.0% coverage with 3 repeats" in out.getvalue() and "?: inconclusive" in unwrapped(out.getvalue())


def test_repeats_in_two_clusters_are_called_bimodal(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for repeat, seconds in enumerate((1.0, 6.0, 1.02, 6.1, 0.99)):
        store(dataset, f"wait-{repeat}", seconds=seconds, repeat=repeat)
    out = io.StringIO()
    print_summary(summary(dataset), out)
    assert "repeats cluster at 165.3 and 1000 kpages/s" in unwrapped(out.getvalue())


def test_what_a_stream_brought_stands_beside_what_vcpus_asked_for(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    store(dataset, "run-a", seconds=2.0, prefetched_pages=300_000)
    [row] = records(summary_table(summary(dataset), wide=False))
    assert (row["kpages/s"], row["prefetched kpages/s"]) == ("500", "150.0")


def test_open_loop_latencies_stand_beside_the_closed_loop_ones(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    with dataset.writer("run-a", "sweep-1") as writer:
        writer.faults(KINDS, OUTCOMES).add(np.zeros(2, np.uint16), faults([1000, 3000], open_loop_lag_ns=7000))
        writer.commit(run_row(), vcpu_rows(1.0))
    [row] = records(summary_table(summary(dataset), wide=True))
    shown = {head: text for head, text in row.items() if head.endswith(" us")}
    assert shown == {"p50 us": "1.0", "p99 us": "3.0", "open p50 us": "8.0", "open p99 us": "10.0"}


def test_the_coverage_that_is_printed_is_that_of_the_row_with_the_fewest_repeats(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for repeat in range(3):
        store(dataset, f"base-{repeat}", repeat=repeat)
    for repeat in range(2):
        store(dataset, f"other-{repeat}", strategy="no_uffd_wait", repeat=repeat)
    assert next(notes(summary(dataset))).startswith("medians over repeats (exact interval: 50.0% coverage with 2 repeats)")


def test_where_the_baseline_ran_with_several_options_a_row_is_divided_by_the_one_with_its_own(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for strategy, pages, seconds in (
        ("uffd_wait", 1, 4.0),
        ("uffd_wait", 16, 2.0),
        ("no_uffd_wait", 1, 2.0),
        ("no_uffd_wait", 16, 0.5),
    ):
        config = json.dumps({"strategy": {"name": strategy, "fault_around_pages": pages}})
        store(dataset, f"{strategy}-{pages}", strategy=strategy, seconds=seconds, config_json=config)
    ratios = {(row.strategy, row.axes["strategy.fault_around_pages"]): row.ratio for row in summary(dataset).rows}
    assert {key: ratio and ratio.value for key, ratio in ratios.items()} == {
        ("uffd_wait", 1): 1.0,
        ("uffd_wait", 16): 1.0,
        ("no_uffd_wait", 1): 2.0,
        ("no_uffd_wait", 16): 4.0,
    }
