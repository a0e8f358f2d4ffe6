"""The tables of the hazards and of the mmap_lock, from data sets made by hand."""

from __future__ import annotations

import json
from pathlib import Path

from results import questions
from results.derive.identities import broken
from results.store.dataset import DataSet
from tests.results.rows import store


def stored(folder: Path, **columns: object) -> DataSet:
    dataset = DataSet.open(str(folder))
    store(dataset, "run-1", **columns)
    return dataset


def test_hazards_show_the_counters_that_are_above_zero_and_no_others(tmp_path: Path) -> None:
    dataset = stored(tmp_path, populate_waits=3, stray_waits=0, pages_dropped=10, track_removes=False)
    answer = questions.answer("balloon_untracked", dataset)
    assert answer.heads == ("strategy", "runs", "pages dropped", "populate waits")
    assert answer.rows[0][1:] == ("1 ok", "10", "3")


def test_the_parameter_of_a_hazard_is_an_axis_even_without_a_column_of_its_own(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for record in ("bitmap", "eexist_only"):
        config = json.dumps({"strategy": {"page_record": record}})
        store(dataset, record, config_json=config, wrong_words=7 if record == "eexist_only" else 0, status="corrupt", reason="x")
    answer = questions.answer("hazard_blind_resolve", dataset)
    assert answer.heads == ("strategy", "page record", "runs", "wrong words")
    assert [row[1:] for row in answer.rows] == [("bitmap", "1 corrupt", "0"), ("eexist_only", "1 corrupt", "7")]
    assert "corrupt: bitmap: x" in answer.notes


def test_the_mmap_lock_is_counted_by_cause_for_a_thousand_faults(tmp_path: Path) -> None:
    reads = {"mmap_lock_reads_probe": 2_000_000, "mmap_lock_reads_populate": 0, "mmap_lock_reads_resolve": 0}
    dataset = stored(
        tmp_path, mmap_writers=1, mmap_writer_achieved_per_s=990.0, faults=1_000_000, mmap_lock_reads_fault=None, **reads
    )
    answer = questions.answer("mmap_lock", dataset)
    assert answer.rows[0][1:3] == ("1", "990")
    assert answer.rows[0][-4:] == ("2000", "0", "0", "-")


def test_a_remove_event_that_was_not_read_breaks_an_identity() -> None:
    row = {"status": "ok", "track_removes": True, "balloon_method": "remove", "removes": 9, "pages_dropped": 10}
    assert list(broken(row, [], [])) == ["removes=9, and the balloon dropped 10 pages"]
    assert not list(broken(row | {"balloon_method": "punch", "removes": 0}, [], []))


def test_each_pro_and_con_of_the_exit_strategies_is_counted_in_the_runs_that_show_it(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    quiet = {"disturb": "none", "track_removes": False, "swapped_pages": 4000, "emulated_exit_ns": 600.0}
    dropped = {"disturb": "balloon", "pages_dropped": 500}
    locks = {"faults": 8000, "mmap_lock_reads_probe": 16_000, "mmap_lock_reads_populate": 4000, "mmap_lock_reads_resolve": 0}
    counts = {"populate_failed": 0, "retries": 200, "trips": 8400}
    store(dataset, "a", strategy="no_slow_gup", populate_ok=4000, latencies_ns=[2500] * 3, **counts, **quiet, **locks)
    store(dataset, "b", strategy="no_uffd_wait", populate_ok=0, latencies_ns=[2500] * 3, **counts, **quiet, **locks)
    store(dataset, "c", strategy="no_slow_gup", populate_waits=50, memory_errors=0, track_removes=False, **dropped)
    store(dataset, "d", strategy="no_uffd_wait", populate_waits=0, memory_errors=60, track_removes=False, **dropped)
    store(dataset, "e", strategy="no_slow_gup", populate_waits=0, memory_errors=0, removes=500, track_removes=True, **dropped)
    store(dataset, "f", strategy="no_slow_gup", disturb="devices", device_waits=7, device_refused=0, device_accesses=1000)
    rows = {text: (slow, wait) for text, slow, wait in questions.answer("exit_tradeoffs", dataset).rows}

    def row(beginning: str) -> tuple[str, str]:
        [found] = [values for text, values in rows.items() if text.startswith(beginning)]
        return found

    assert row("mmap_lock reads by the emulated probe") == ("2000.0", "2000.0")
    assert row("mmap_lock reads by the kernel") == ("-", "-")
    assert row("extra trips") == ("1000.0", "0.0")
    assert row("fault latency p50, us, raw") == ("2.5", "2.5")
    assert row("dropped, untracked: asleep") == ("100.0", "0.0")
    assert row("dropped, untracked: taken for a memory error") == ("0.0", "120.0")
    assert row("dropped, tracked: asleep") == ("0.0", "-")
    assert row("tracking: remove events") == ("1000.0", "-")
    assert row("tracking: exits") == ("500.0", "23.8")
    assert row("device accesses that sleep") == ("7.0", "-") and row("device accesses refused") == ("0.0", "-")


def test_pages_of_the_guest_and_of_its_mappings_are_sums_of_different_columns_of_its_vcpus() -> None:
    vcpus = [
        {"vcpu": 0, "pages_resolved": 10, "guest_pages_resolved": 7},
        {"vcpu": 1, "pages_resolved": 10, "guest_pages_resolved": 3},
    ]
    assert not list(broken({"pages_resolved": 10, "mappings_resolved": 20}, vcpus, []))
    assert list(broken({"pages_resolved": 20, "mappings_resolved": 20}, vcpus, [])) == [
        "pages_resolved=20 of the run, and its vCPUs sum to 10"
    ]
    assert list(broken({"pages_resolved": 10, "mappings_resolved": 10}, vcpus, [])) == [
        "mappings_resolved=10 of the run, and its vCPUs sum to 20"
    ]
    assert not list(broken({"pages_resolved": 20}, [{"vcpu": 0, "pages_resolved": 20}], []))  # stored by an older version
