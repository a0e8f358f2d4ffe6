"""The tables of the hazards and of the mmap_lock, from data sets made by hand."""

from __future__ import annotations

from pathlib import Path

from results import questions
from results.identities import broken
from results.store import DataSet
from tests.results.rows import store


def stored(folder: Path, **columns: object) -> DataSet:
    dataset = DataSet.open(str(folder))
    store(dataset, "run-1", **columns)
    return dataset


def test_hazards_show_the_counters_that_are_above_zero_and_no_others(tmp_path: Path) -> None:
    dataset = stored(tmp_path, populate_waits=3, stray_waits=0, pages_dropped=10, track_removes=False)
    answer = questions.answer("balloon_untracked", dataset)
    assert answer.heads == ("strategy", "pages dropped", "populate waits", "status")
    assert answer.rows[0][1:] == ("10", "3", "ok")


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
