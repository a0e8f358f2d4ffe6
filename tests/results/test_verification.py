"""`verify` names whatever does not agree: each test takes a data set that does, and breaks one thing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results.app import main
from results.schema import STAGES_NS
from results.store.dataset import DataSet
from results.verify.recorded_faults import RecordedFaults
from tests.results.rows import run_row
from tests.results.verifiable import CONFIG, RUN, edit, found, write_run


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
        ("trips", 5, "run-a: trips=5, and its vCPUs and the page server's threads sum to 1"),
        ("lost_races", 3, "run-a: lost_races=3, and its vCPUs sum to 1"),
        ("lost_races", 3, "run-a: lost_races=3, and 1 faults ended so"),
        ("faults", 4, "run-a: faults=4, and 3 left a record"),
        ("minor_pages", 2, "run-a: 3 faults of kind minor, and minor_pages=2 visited at most 1 times"),
        ("strategy", "no_uffd_wait", "run-a: strategy=no_uffd_wait, and its configuration has uffd_wait"),
        ("memory_type", "anon", "run-a: memory_type=anon, and its configuration has shmem"),
        ("page_bytes", 8192, "run-a: page_bytes=8192, and its configuration has 4096"),
        ("vcpus", 8, "run-a: vcpus=8, and its configuration has 2"),
        ("think_ns", 15, "run-a: think_ns=15, and its configuration has 1500.0"),
        ("seed", 8, "run-a: seed=8, and its configuration has 7"),
        ("config_json", json.dumps({**CONFIG, "vcpus": 5}), "run-a: vcpus=2, and its configuration has 5"),
        ("wrong_words", 2, "run-a: status=ok, and wrong_words=2: the status is corrupt"),
        ("status", "corrupt", "run-a: status=corrupt, and wrong_words=0"),
        ("status", "failed", "run-a: status=failed, and no reason"),
        ("pages_resolved", None, "run-a: status=ok, and pages_resolved is null"),
        ("trusted", False, "run-a: trusted=False, and distrust=None"),
        ("trusted", None, "run-a: trusted=None, and its rules give True"),
        ("distrust", "noise", "run-a: trusted=True, and distrust='noise'"),
        ("unprepared", 3, "run-a: trusted=True, and its rules flag it: pages were not in the state asked for (3)"),
        ("recoveries", 1, "run-a: trusted=True, and its rules flag it: the page server was killed and replaced (1)"),
        ("driver_lag_s", 0.4, "run-a: trusted=True, and its rules flag it: status poll late (0.40 s)"),
        ("other_cpu_share", 1.7, "run-a: trusted=True, and its rules flag it: other processes were busy (1.70 of 2 CPUs)"),
        ("other_cpu_share", 0.19, "run-a: trusted=True, and its rules give None"),
        ("rig_cpu_share", 0.3, "run-a: trusted=True, and its rules flag it: benchmark overhead was high (0.30 of 2 CPUs)"),
        ("steal_share", 0.11, "run-a: trusted=True, and its rules flag it: the hypervisor took CPU time (0.11 of 2 CPUs)"),
        ("throttled_s", 0.2, "run-a: trusted=True, and its rules flag it: throttled by a CPU quota (0.20 s, 0 CPUs)"),
        ("fault_records", 4, "run-a: fault_records=4, and faults has 3 rows of it"),
        ("pages", 2, "run-a: 1 faults are on pages beyond pages=2"),
        ("memory_errors", 1, "run-a: memory_errors=1, and 0 faults ended so"),
        ("status", "fine", "run-a: status='fine' is none of ok, failed, "),
        ("config_json", "{", "run-a: config_json is not an object in JSON"),
        ("strategy_options", "[]", "run-a: strategy_options is not an object in JSON"),
        ("strategy_options", '{"fault_around_pages": 2}', "run-a: strategy_options has fault_around_pages=2, and its config"),
        (
            "engine_options",
            '{"guest_mode": "user"}',
            "run-a: engine_options has guest_mode=user, and its configuration has kernel",
        ),
        ("strategy", None, "run-a: strategy=None, and its configuration has uffd_wait"),
        ("guests", None, "run-a: guests=None, and its configuration has 1"),
        ("vcpus", None, "run-a: vcpus=None, and its configuration has 2"),
        ("trips", None, "run-a: trips=None, and its vCPUs and the page server's threads sum to 1"),
        ("vcpu_cpus", "0", "run-a: vcpus=2, and vcpu_cpus has CPUs of 1"),
        ("reader_cpus", "0;1", "run-a: readers=None, and reader_cpus has CPUs of 2"),
        ("minor_pages", 7, "run-a: 7 pages were prepared in some state, of 8 in each of 1 guests"),
        ("emulated_exit_before_ns", 500.0, "run-a: emulated_exit_ns=0.0, and its calibrations were 500.0"),
        ("rounds", 2, "run-a: rounds=2, and every vCPU finished 0"),
        ("involuntary_switches", 9, "run-a: involuntary_switches=9, and its vCPUs and readers sum to 7"),
        ("guest_hosts", "b-host", "run-a: vCPU 0: host=a-host, and its guest is on b-host"),
        ("vcpus_per_vmm", 2, "run-a: vCPU 1: vmm=1, and each VMM process has 2 vCPUs"),
        ("events", 0, "run-a: vCPU 0: 1 faults have the outcome waited, and no reader read an event"),
        ("readers", 2, "run-a: readers=2, and threads has rows of 1"),
    ],
)
def test_a_column_of_the_run_that_is_wrong_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], column: str, value: Any, said: str
) -> None:
    edit(folder, "runs", lambda rows: rows[0].update({column: value}))
    assert any(line.startswith(said) for line in found(folder, capsys))


@pytest.mark.parametrize(("by_the_vcpu", "named"), [(1, False), (3, True)])
def test_waits_that_readers_counted_of_a_lost_vcpu_have_no_row(
    folder: Path, capsys: pytest.CaptureFixture[str], by_the_vcpu: int, named: bool
) -> None:
    edit(folder, "vcpus", lambda rows: (rows.pop(), rows[0].update(stray_waits=by_the_vcpu)))
    edit(folder, "runs", lambda rows: rows[0].update(status="crashed", reason="VMM process 1 died", stray_waits=2))
    assert ("run-a: stray_waits=2, and its vCPUs sum to 3" in found(folder, capsys)) == named


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("guest", 1, "run-a: vCPU 0: guest=1, and each guest has 2 vCPUs"),
        ("cpus", [0], "run-a: 3 faults were on a CPU that their vCPU did not run on"),
        ("wrong_words", 1, "run-a: wrong_words=0, and its vCPUs read 1"),
        ("stuck", "a page", "run-a: vCPU 0: status=ok, and stuck='a page'"),
        ("failure", "an error", "run-a: vCPU 0: status=ok, and failure='an error'"),
        ("vcpu", 1, "run-a: a vCPU has two rows in vcpus"),
        ("vcpu", 7, "run-a: vcpus=2, and vcpus has rows of 1, 7"),
        ("trips_resolved", 0, "run-a: vCPU 0: 1 faults have the outcome resolved, and it counted 0"),
        ("lost_races", 0, "run-a: vCPU 0: 1 faults have the outcome lost_race, and it counted 0"),
        ("round_end_ns", [1, 2], "run-a: vCPU 0: its lists of rounds are -1, -1, -1, 2 long"),
    ],
)
def test_a_column_of_a_vcpu_that_is_wrong_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], column: str, value: Any, said: str
) -> None:
    edit(folder, "vcpus", lambda rows: rows[0].update({column: value}))
    assert said in found(folder, capsys)


def test_the_times_of_a_vcpu_are_those_of_its_first_and_last_round(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def two_rounds(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            ends = [row["start_ns"] + 10, row["end_ns"] + 1]
            row |= {"round_start_ns": [row["start_ns"] - 1, row["start_ns"] + 20], "round_end_ns": ends}
            row |= {"round_pages": [1, 2], "round_cpu_ns": [1, 1]}

    edit(folder, "vcpus", two_rounds)
    lines = found(folder, capsys)
    assert "run-a: vCPU 0: start_ns=5000000000, and its first round began at 4999999999" in lines
    assert "run-a: vCPU 0: end_ns=5500000000, and its last round ended at 5500000001" in lines


@pytest.mark.parametrize("change", ["taken away", "there twice"])
@pytest.mark.parametrize(("table", "lacks"), [("vcpus", "vcpus has rows of 0"), ("threads", "threads has rows of 1 vCPUs")])
def test_a_row_too_few_or_too_many_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], table: str, lacks: str, change: str
) -> None:
    taken = change == "taken away"
    edit(folder, table, lambda rows: rows.pop(1) if taken else rows.append(rows[1]))
    twice = {"vcpus": "a vCPU has two rows in vcpus", "threads": "vcpu 1 of guest None has two rows in threads"}
    assert any((lacks if taken else twice[table]) in line for line in found(folder, capsys))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"guest": 1}, "run-a: 1 faults have another guest or host than their vCPU"),
        ({"host": "b-host"}, "run-a: 1 faults have another guest or host than their vCPU"),
        ({"cpu": 9}, "run-a: 1 faults were on a CPU that their vCPU did not run on"),
        ({"emulated_exits": 3}, "run-a: vCPU 0: its faults paid for 3 emulated exits, and it counted 2"),
        ({"emulated_entries": 2}, "run-a: vCPU 0: its faults paid for 2 emulated stage-2 violations, and it counted 1"),
        ({"outcome": "populated"}, "run-a: vCPU 0: 1 faults have the outcome populated, and it counted 0"),
        ({"outcome": "memory_error"}, "run-a: vCPU 0: 1 faults have the outcome memory_error, and it counted 0"),
    ],
)
def test_a_column_of_a_fault_that_its_vcpu_contradicts_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], values: dict[str, Any], said: str
) -> None:
    edit(folder, "vcpus", lambda rows: rows[0].update(emulated_signals=2, emulated_probes_found=1))
    edit(folder, "faults", lambda rows: rows[0].update(values))
    assert said in found(folder, capsys)


def test_a_page_of_two_kinds_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "runs", lambda rows: rows[0].update(passes=2, minor_pages=6, absent_pages=2))
    edit(folder, "faults", lambda rows: [row.update(page=5) for row in rows])
    edit(folder, "faults", lambda rows: rows[2].update(kind="absent"))
    assert any("faults are of another kind than one on the same page before" in line for line in found(folder, capsys))


@pytest.mark.parametrize(("share", "writes"), [(0.0, [True, False, True]), (1.0, [False, True, False])])
def test_a_write_where_all_accesses_read_is_named_and_the_reverse(
    folder: Path, capsys: pytest.CaptureFixture[str], share: float, writes: list[bool]
) -> None:
    edit(folder, "runs", lambda rows: rows[0].update(read_share=share))
    edit(folder, "faults", lambda rows: [row.update(write=write) for row, write in zip(rows, writes, strict=True)])
    assert found(folder, capsys) == [f"run-a: 1 faults contradict read_share={share}: all accesses read, or none does"]


def test_a_null_where_a_number_must_be_is_named_and_the_other_runs_are_verified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(DataSet.open(str(folder)), "run-b", host="another")
    edit(folder, "runs", lambda rows: rows[0].update(watched_s=0.0))
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "run-a: cannot be computed again: ZeroDivisionError" in out and "run-b" not in out


def test_a_sum_of_the_readers_that_does_not_come_out_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "threads", lambda rows: rows[-1].update(events_lost=1))
    assert found(folder, capsys) == [
        "run-a: events_lost=0, and its vCPUs and the page server's threads sum to 1",
        "run-a: reader 0: events=3, and events_resolved + resolved_again + events_lost + events_poisoned + events_dropped is 4",
    ]


def test_what_a_vcpu_and_the_reader_that_answers_it_both_count_is_in_the_run_once(folder: Path) -> None:
    edit(folder, "runs", lambda rows: rows[0].update(stray_waits=2))
    edit(folder, "vcpus", lambda rows: rows[0].update(stray_waits=2))
    edit(folder, "threads", lambda rows: rows[-1].update(stray_waits=2))
    assert main(["verify", str(folder)]) == 0


@pytest.mark.parametrize("limit", [0, 4])
def test_only_with_a_faults_limit_of_0_no_record_is_missed(limit: int) -> None:
    run = {**run_row(), **RUN, "status": "ok", "fault_records": 0, "memory_errors": 2}
    run["config_json"] = json.dumps({**CONFIG, "faults_limit": limit})
    missed = ["memory_errors=2, and 0 faults ended so", "lost_races=1, and 0 faults ended so", "faults=3, and 0 left a record"]
    assert list(RecordedFaults(run, []).disagreements()) == (missed if limit else [])


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
    "exempt",
    [{"watched_s": 0.04, "trusted": None}, {"watched_s": None}, {"machine_cpus": None}, {"guest_hosts": "a-host,b"}],
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
    recovered = {"recoveries": 1, "trusted": False, "distrust": "the page server was killed and replaced (1)"}
    edit(folder, "runs", lambda rows: rows[0].update(recovered))  # a page in flight is raised again
    assert main(["verify", str(folder)]) == 0
    edit(folder, "runs", lambda rows: rows[0].update(passes=2, recoveries=0, trusted=True, distrust=None))
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
        "gone": "outcome 'gone' is none of resolved, waited, lost_race, populated, kernel, memory_error, abandoned, external",
    }
    assert f"run-a: {said[value]}" in found(folder, capsys)


def test_the_longest_fault_of_a_vcpu_is_the_longest_of_its_faults(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for longest in (298, 302):
        edit(folder, "vcpus", lambda rows, longest=longest: rows[0].update(longest_fault_ns=longest))  # type: ignore[misc]
        assert found(folder, capsys) == [f"run-a: vCPU 0: longest_fault_ns={longest}, and its faults' is 300"]
