"""The rounds of a run: what each vCPU noted of each round becomes the run's measured time and the table `rounds`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from results.app import main
from results.derive.rounds import measured_s, round_rows, start_spread_ns
from results.store.dataset import DataSet
from results.store.parquet import as_table
from tests.results.rows import store


def vcpu(rounds: list[tuple[int, int]], *, guest: int = 0, host: str = "a") -> dict[str, Any]:
    return {
        "guest": guest,
        "host": host,
        "start_ns": rounds[0][0],
        "end_ns": rounds[-1][1],
        "round_start_ns": [start for start, _ in rounds],
        "round_end_ns": [end for _, end in rounds if end],
        "round_pages": [10 * number + 1 for number in range(len(rounds))],
        "round_cpu_ns": [100] * len(rounds),
    }


def test_the_measured_time_is_the_sum_of_the_rounds_and_not_the_time_between_them() -> None:
    rows = [vcpu([(1000, 3000), (10_000, 10_500)]), vcpu([(1100, 2000), (10_100, 11_000)])]
    assert measured_s(rows) == pytest.approx((2000 + 1000) / 1e9)
    assert start_spread_ns(rows) == 100


def test_of_several_hosts_the_longest_round_stands() -> None:
    rows = [vcpu([(1000, 3000), (5000, 5100)]), vcpu([(7_000_000, 7_000_500), (8_000_000, 8_000_900)], guest=1, host="b")]
    assert measured_s(rows) == pytest.approx((2000 + 900) / 1e9)


def test_a_round_that_a_vcpu_did_not_finish_leaves_no_measured_time_and_no_row() -> None:
    rows = [vcpu([(1000, 3000), (10_000, 0)]), vcpu([(1100, 2000), (10_100, 11_000)])]
    assert measured_s(rows) is None
    assert [row["round"] for row in round_rows(rows)] == [0]


def test_vcpus_with_different_numbers_of_rounds_have_no_measured_time() -> None:
    assert measured_s([vcpu([(1, 2)]), vcpu([(1, 2), (3, 4)])]) is None
    assert measured_s([]) is None


def test_a_row_of_rounds_sums_a_guest_and_marks_the_first() -> None:
    rows = round_rows([vcpu([(5, 9), (20, 22)]), vcpu([(4, 8), (21, 30)]), vcpu([(1, 2), (3, 4)], guest=1)])
    assert [(row["guest"], row["round"], row["first"], row["start_ns"], row["end_ns"]) for row in rows] == [
        (0, 0, True, 4, 9),
        (0, 1, False, 20, 30),
        (1, 0, True, 1, 2),
        (1, 1, False, 3, 4),
    ]
    assert [row["pages_resolved"] for row in rows] == [2, 22, 1, 11]
    assert [row["cpu_ns"] for row in rows] == [200, 200, 100, 100]


def test_rows_of_before_there_were_rounds_have_one() -> None:
    rows = [{"start_ns": 1000, "end_ns": 4000, "host": None}, {"start_ns": 1200, "end_ns": 6000, "host": None}]
    assert measured_s(rows) == pytest.approx(5000 / 1e9)
    assert [(row["round"], row["pages_resolved"]) for row in round_rows(rows)] == [(0, None)]


def test_nothing_after_a_round_that_was_not_finished_is_a_round() -> None:
    late = vcpu([(1000, 3000), (10_000, 11_000), (20_000, 21_000)])
    late["round_start_ns"][1] = 0
    assert [row["round"] for row in round_rows([late])] == [0]


def test_a_row_of_rounds_that_its_vcpus_do_not_give_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = DataSet.open(str(tmp_path))
    store(dataset, "run-a")
    [file] = tmp_path.glob("rounds/*/run-a.parquet")
    [row] = pq.read_table(file, partitioning=None).to_pylist()
    pq.write_table(as_table("rounds", [row | {"end_ns": row["end_ns"] + 5}]), file)
    assert main(["verify", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"run-a: round 0: end_ns={row['end_ns'] + 5}, and computed again it is {row['end_ns']}" in said
