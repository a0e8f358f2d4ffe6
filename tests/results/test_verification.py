"""`verify` names whatever does not agree: each test takes a data set that does, and breaks one thing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.app import main
from results.schema import COUNTERS, STAGES_NS
from results.store.dataset import DataSet
from results.store.parquet import as_table
from tests.results.rows import KINDS, OUTCOMES, faults, run_row, thread_rows, vcpu_rows

ZEROS = {counter.name: 0 for counter in COUNTERS}
CONFIG = {
    "strategy": {"name": "uffd_wait"},
    "memory": {"type": "shmem", "page_bytes": 4096},
    "access": {"order": "permutation", "think_us": 1.5},
    "vcpus": 4,
    "cores": 0,
    "seed": 7,
    "repeat": 0,
    "guests": 1,
}
RUN = {
    **ZEROS,
    "pages": 8,
    "faults": 3,
    "sample_every": 1,
    "source": "local",
    "events": 3,
    "events_resolved": 3,
    "lost_races": 1,
    "access_order": "permutation",
    "accesses_per_pass": 0,
    "passes": 1,
    "think_ns": 1500,
    "minor_pages": 8,
    "absent_pages": 0,
    "hit_pages": 0,
    "wrong_words": 0,
    "config_json": json.dumps(CONFIG),
    "seed": 7,
    "plan_key": "key-a",
    "trusted": True,
    "machine_cpus": 2,
    "watched_s": 1.0,
    "other_cpu_share": 0.15,  # of 2 CPUs
}


def recorded() -> npt.NDArray[np.void]:
    """Three faults of vCPU 0, of 100, 200 and 300 ns, soon after its start; the last one lost a race."""
    records = faults([100, 200, 300])
    for stage in ("raised", "delivered", "installed", "resumed"):
        records[f"{stage}_ns"] -= np.uint64(10**15 - 5_000_000_010)
    records["installed_ns"][2] = 0
    records["outcome"] = [OUTCOMES.index(outcome) for outcome in ("resolved", "waited", "lost_race")]
    return records


def write_run(dataset: DataSet, run_id: str, **values: Any) -> None:
    vcpus = [
        {
            **row,
            **ZEROS,
            "recorded": 3 - 3 * row["vcpu"],
            "faults": 3 - 3 * row["vcpu"],
            "longest_fault_ns": 300 - 300 * row["vcpu"],
        }
        for row in vcpu_rows(1.0)
    ]
    vcpus[0]["lost_races"] = 1
    threads = [*thread_rows(), {"role": "reader", "number": 0, **ZEROS, "events": 3, "events_resolved": 3}]
    with dataset.writer(run_id, "sweep-1") as writer:
        writer.faults(KINDS, OUTCOMES).add(np.zeros(3, np.uint16), recorded())
        writer.commit(run_row(**{**RUN, **values}), vcpus, threads)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One run of two vCPUs, three faults, and a reader that read three events."""
    write_run(DataSet.open(str(tmp_path / "dataset")), "run-a")
    return tmp_path / "dataset"


def edit(folder: Path, table: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Rewrite the run's file of `table` with its rows changed."""
    file = folder / table / "sweep=sweep-1" / "run-a.parquet"
    rows = pq.read_table(file, partitioning=None).to_pylist()
    change(rows)
    pq.write_table(as_table(table, rows), file)


def found(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["verify", str(folder)]) == 1
    *lines, total = capsys.readouterr().out.splitlines()
    assert total == f"1 runs, {len(lines)} disagreements"
    return lines


def test_a_data_set_that_agrees_with_itself_ends_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out == "1 runs, everything agrees\n"


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("pages_per_s", 1.0, "run-a: pages_per_s=1.0, and computed again it is 1000000.0"),
        ("latency_p99_ns", 299, "run-a: latency_p99_ns=299, and computed again it is 300"),
        ("pages_per_s_net", 1.0, "run-a: pages_per_s_net=1.0, and computed again it is "),
        ("overhead_s", 1.0, "run-a: overhead_s=1.0, and computed again it is None"),
        ("trips", 5, "run-a: trips=5, and its vCPUs and the page server's threads sum to 0"),
        ("lost_races", 3, "run-a: lost_races=3, and its vCPUs sum to 1"),
        ("lost_races", 3, "run-a: lost_races=3, and 1 faults ended so"),
        ("faults", 4, "run-a: faults=4, and 3 left a record"),
        ("minor_pages", 2, "run-a: 3 faults of kind minor, and minor_pages=2 visited at most 1 times"),
        ("strategy", "no_uffd_wait", "run-a: strategy=no_uffd_wait, and its configuration has uffd_wait"),
        ("memory_type", "anon", "run-a: memory_type=anon, and its configuration has shmem"),
        ("page_bytes", 8192, "run-a: page_bytes=8192, and its configuration has 4096"),
        ("vcpus", 8, "run-a: vcpus=8, and its configuration has 4"),
        ("think_ns", 15, "run-a: think_ns=15, and its configuration has 1500.0"),
        ("seed", 8, "run-a: seed=8, and its configuration has 7"),
        ("config_json", json.dumps({**CONFIG, "vcpus": 5}), "run-a: vcpus=4, and its configuration has 5"),
        ("wrong_words", 2, "run-a: status=ok, and wrong_words=2: the status is corrupt"),
        ("status", "corrupt", "run-a: status=corrupt, and wrong_words=0"),
        ("status", "failed", "run-a: status=failed, and no reason"),
        ("pages_resolved", None, "run-a: status=ok, and pages_resolved is null"),
        ("trusted", False, "run-a: trusted=False, and distrust is null"),
        ("distrust", "noise", "run-a: trusted=True, and distrust='noise'"),
        ("unprepared", 3, "run-a: trusted=True, and unprepared=3"),
        ("recoveries", 1, "run-a: trusted=True, and recoveries=1"),
        ("driver_lag_s", 0.4, "run-a: trusted=True, and driver_lag_s=0.4, above 0.25"),
        ("other_cpu_share", 1.7, "run-a: trusted=True, and other_cpu_share=1.7 of 2 CPUs, above 10%"),
        ("rig_cpu_share", 0.3, "run-a: trusted=True, and rig_cpu_share=0.3 of 2 CPUs, above 10%"),
        ("steal_share", 0.11, "run-a: trusted=True, and steal_share=0.11 of 2 CPUs, above 5%"),
        ("fault_records", 4, "run-a: fault_records=4, and faults has 3 rows of it"),
        ("pages", 2, "run-a: 1 faults are on pages beyond pages=2"),
        ("memory_errors", 1, "run-a: memory_errors=1, and 0 faults ended so"),
        ("status", "fine", "run-a: status='fine' is none of ok, failed, "),
    ],
)
def test_a_column_of_the_run_that_is_wrong_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], column: str, value: Any, said: str
) -> None:
    edit(folder, "runs", lambda rows: rows[0].update({column: value}))
    assert any(line.startswith(said) for line in found(folder, capsys))


def test_a_sum_of_the_readers_that_does_not_come_out_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "threads", lambda rows: rows[-1].update(events_lost=1))
    assert found(folder, capsys) == [
        "run-a: events_lost=0, and its vCPUs and the page server's threads sum to 1",
        "run-a: reader 0: events=3, and events_resolved + resolved_again + events_lost + events_poisoned + events_dropped is 4",
    ]


def test_a_fault_taken_away_is_missed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "faults", lambda rows: rows.pop())
    lines = found(folder, capsys)
    assert "run-a: fault_records=3, and faults has 2 rows of it" in lines
    assert "run-a: vCPU 0: recorded=3, and faults has 2 rows of it" in lines
    assert "run-a: vCPU 0: longest_fault_ns=300, and its faults' is 200" in lines
    assert "run-a: latency_p99_ns=300, and computed again it is 200" in lines


@pytest.mark.parametrize(
    ("stage", "before"),
    [
        ("delivered_ns", "raised_ns"),
        ("fetched_ns", "delivered_ns"),
        ("installed_ns", "delivered_ns"),
        ("resumed_ns", "delivered_ns"),
    ],
)
def test_a_stage_before_the_one_ahead_of_it_is_counted_whichever_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str], stage: str, before: str
) -> None:
    edit(folder, "faults", lambda rows: [row.update({stage: row[before] - 1}) for row in rows[:2]])
    assert f"run-a: 2 faults have {stage} before the stage ahead of it" in found(folder, capsys)


@pytest.mark.parametrize(
    "exempt", [{"watched_s": 0.04}, {"watched_s": None}, {"machine_cpus": None}, {"guest_hosts": "a,b"}, {"trusted": None}]
)
def test_shares_that_no_rule_judges_do_not_contradict_trusted(folder: Path, exempt: dict[str, Any]) -> None:
    edit(folder, "runs", lambda rows: rows[0].update({"other_cpu_share": 1.7, **exempt}))
    assert main(["verify", str(folder)]) == 0


def test_the_html_names_a_data_set_that_does_not_verify(folder: Path, tmp_path: Path) -> None:
    assert main(["report", str(folder), "--out", str(tmp_path / "a.html")]) == 0
    assert "does not verify" not in (tmp_path / "a.html").read_text()
    edit(folder, "runs", lambda rows: rows[0].update(latency_p99_ns=299))
    assert main(["report", str(folder), "--out", str(tmp_path / "b.html")]) == 0
    text = (tmp_path / "b.html").read_text()
    assert "This data set does not verify: run-a: latency_p99_ns=299, and computed again it is 300." in text


def test_an_access_before_the_time_it_was_due_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "faults", lambda rows: [row.update(intended_ns=row["raised_ns"] + 1) for row in rows[:2]])
    assert "run-a: 2 faults have raised_ns before the stage ahead of it" in found(folder, capsys)


@pytest.mark.parametrize(("shift_ns", "outside"), [(-11, 1), (500_000_000, 3), (-2_000_000_000, 3)])
def test_faults_outside_the_time_of_their_vcpu_are_counted(
    folder: Path, capsys: pytest.CaptureFixture[str], shift_ns: int, outside: int
) -> None:
    def shift(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row |= {name: row[name] + shift_ns for name in STAGES_NS if row[name] is not None}

    edit(folder, "faults", shift)
    assert found(folder, capsys) == [f"run-a: {outside} faults lie outside the time that their vCPU measured"]


def test_a_fault_of_a_vcpu_without_a_row_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "faults", lambda rows: rows[0].update(vcpu=9))
    assert "run-a: 1 faults are of vCPUs, or of rounds, that have no row" in found(folder, capsys)


def test_a_page_that_comes_twice_where_its_order_visits_it_once_is_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(folder, "faults", lambda rows: rows[1].update(page=rows[0]["page"]))
    assert found(folder, capsys) == ["run-a: 1 faults come back to a page that their vCPU visits 1 times a round"]
    edit(folder, "runs", lambda rows: rows[0].update(passes=2))
    assert main(["verify", str(folder)]) == 0


@pytest.mark.parametrize(
    ("column", "value"), [("kind", "absent"), ("kind", "hit"), ("kind", "blue"), ("outcome", "lost_race"), ("outcome", "gone")]
)
def test_a_kind_or_an_outcome_that_was_changed_is_missed(
    folder: Path, capsys: pytest.CaptureFixture[str], column: str, value: str
) -> None:
    edit(folder, "faults", lambda rows: rows[0].update({column: value}))
    said = {
        "absent": "1 faults of kind absent, and absent_pages=0 visited at most 1 times",
        "hit": "1 faults of kind hit, and hit_pages=0 visited at most 1 times",
        "blue": "kind 'blue' is none of hit, minor, absent, swapped, poisoned",
        "lost_race": "lost_races=1, and 2 faults ended so",
        "gone": "outcome 'gone' is none of resolved, waited, lost_race, populated, kernel, memory_error, abandoned",
    }
    assert f"run-a: {said[value]}" in found(folder, capsys)


def test_the_longest_fault_of_a_vcpu_is_the_longest_of_its_faults(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for longest in (298, 302):
        edit(folder, "vcpus", lambda rows, longest=longest: rows[0].update(longest_fault_ns=longest))  # type: ignore[misc]
        assert found(folder, capsys) == [f"run-a: vCPU 0: longest_fault_ns={longest}, and its faults' is 300"]


@pytest.mark.parametrize("table", ["vcpus", "threads", "rounds", "faults", "runs"])
def test_a_file_that_is_gone_is_missed(folder: Path, capsys: pytest.CaptureFixture[str], table: str) -> None:
    edit(folder, "runs", lambda rows: rows[0].update(rounds=1))
    DataSet.open(str(folder)).plan("sweep-1", ["key-a"])
    (folder / table / "sweep=sweep-1" / "run-a.parquet").unlink()
    said = {
        "faults": "run-a: fault_records=3, and faults has 0 rows of it",
        "rounds": "run-a: rounds=1, and it has no rows in rounds",
        "runs": "sweep sweep-1: 1 of 1 planned runs are missing; if its driver was killed, the same command with resume=true",
    }
    assert main(["verify", str(folder)]) == 1
    assert said.get(table, f"run-a: has no rows in {table}") in capsys.readouterr().out


def test_a_whole_run_that_is_gone_is_missed_by_its_plan_and_one_too_many_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = DataSet.open(str(folder))
    dataset.plan("sweep-1", ["key-a"])
    write_run(dataset, "run-b", plan_key="key-b", host="another")
    assert main(["verify", str(folder)]) == 1
    assert "sweep sweep-1: 1 runs that it did not plan" in capsys.readouterr().out
    dataset.plan("sweep-1", ["key-b"])  # resumed with another plan: it has both
    assert main(["verify", str(folder)]) == 0
    dataset.plan("sweep-1", ["key-b", "key-b"])
    assert main(["verify", str(folder)]) == 1
    assert "sweep sweep-1: 1 of 3 planned runs are missing;" in capsys.readouterr().out


def test_the_runs_that_an_interrupted_sweep_did_not_come_to_are_not_missed(folder: Path) -> None:
    dataset = DataSet.open(str(folder))
    dataset.plan("sweep-1", ["key-a", "key-b", "key-c"])
    with dataset.writer("run-b", "sweep-1") as writer:
        writer.commit({"status": "interrupted", "reason": "Ctrl-C", "plan_key": "key-b"}, [])
    assert main(["verify", str(folder)]) == 0


def test_a_run_cloned_under_another_id_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for table in ("runs", "vcpus", "threads", "rounds", "faults"):
        there = folder / table / "sweep=sweep-1" / "run-a.parquet"
        rows = pq.read_table(there, partitioning=None).to_pylist()
        pq.write_table(as_table(table, [{**row, "run_id": "run-b"} for row in rows]), there.with_name("run-b.parquet"))
    assert main(["verify", str(folder)]) == 1
    assert "run-b: is a copy of run run-a: both began and ended at the same nanoseconds" in capsys.readouterr().out


def test_a_file_under_another_name_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for table in ("runs", "vcpus"):
        there = folder / table / "sweep=sweep-1" / "run-a.parquet"
        shutil.copy(there, there.with_name("run-b.parquet"))
    assert main(["verify", str(folder)]) == 1
    assert "run-b: 1 rows of runs in its file belong to another run or sweep" in capsys.readouterr().out


def test_a_foreign_or_torn_file_among_the_runs_is_named_and_the_rest_is_verified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = folder / "runs" / "sweep=sweep-1"
    pq.write_table(pa.table({"colour": ["red"]}), runs / "foreign.parquet")
    (runs / "torn.parquet").write_bytes((runs / "run-a.parquet").read_bytes()[:-100])
    edit(folder, "runs", lambda rows: rows[0].update(latency_p99_ns=299))
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "foreign: cannot be read: " in out
    assert "torn: cannot be read: " in out
    assert "run-a: latency_p99_ns=299, and computed again it is 300" in out


@pytest.mark.parametrize("table", ["runs", "vcpus", "threads", "rounds", "faults"])
def test_a_flipped_bit_in_any_page_is_found(folder: Path, capsys: pytest.CaptureFixture[str], table: str) -> None:
    """One bit of the data of each column in turn: the pages' checksums, which the store writes, do not fit."""
    file = folder / table / "sweep=sweep-1" / "run-a.parquet"
    whole = file.read_bytes()
    group = pq.ParquetFile(file).metadata.row_group(0)
    unseen = []
    for number in range(0, group.num_columns, 7):
        column = group.column(number)
        end = (
            min(column.dictionary_page_offset or column.data_page_offset, column.data_page_offset) + column.total_compressed_size
        )
        flipped = bytearray(whole)
        flipped[end - 1] ^= 1 << (number % 8)
        file.write_bytes(flipped)
        if main(["verify", str(folder)]) == 0:
            unseen.append(column.path_in_schema)
    file.write_bytes(whole)
    assert unseen == []
    assert main(["verify", str(folder)]) == 0


def test_rows_of_another_run_in_the_file_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "faults", lambda rows: rows[0].update(run_id="run-b"))
    assert found(folder, capsys) == ["run-a: 1 rows of faults in its file belong to another run or sweep"]


def test_rows_without_a_run_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "runs/sweep=sweep-1/run-a.parquet").unlink()
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    for table in ("vcpus", "threads", "faults"):
        assert f"run-a: has rows in {table} and none in runs" in out


@pytest.mark.parametrize("version", ["version-1", "version-2"])
def test_an_older_data_set_agrees_with_itself(version: str) -> None:
    assert main(["verify", str(Path(__file__).parent / "data" / version)]) == 0
