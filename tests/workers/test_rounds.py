"""Rounds of a run: each prepares the page states anew, and is the first one again, count for count."""

from __future__ import annotations

import dataclasses
from collections import Counter
from operator import attrgetter
from typing import Any

import pytest

from tests.conformance.run import PAGES, found, spec_of
from tests.conformance.table import ONE_BY_ONE, Row, rows
from tests.in_process import Ran, run_in_process

pytestmark = pytest.mark.usefixtures("zram")
ROUNDS = 3
ROWS = [row for row in rows() if row.strategy != ONE_BY_ONE]


def in_rounds(spec: Any, rounds: int = ROUNDS, measure_s: float = 3600.0) -> Ran:
    """The run with exactly so many rounds, if the measured time asks for them."""
    return run_in_process(dataclasses.replace(spec, measure_s=measure_s, rounds_limit=rounds, record_capacity=8192))


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize("row", ROWS, ids=attrgetter("id"))
def test_every_round_has_the_counts_of_the_first(row: Row) -> None:
    ran = in_rounds(spec_of(row.strategy, row.memory, row.state))
    seen = found(ran)
    assert seen["trouble"] == ("", 0, 0, [])
    assert seen["counts"] == {key: row.counts.get(key, 0) * PAGES[row.memory] * ROUNDS for key in seen["counts"]}
    assert sum(seen["faults"].values()) == (PAGES[row.memory] * ROUNDS if row.outcome else 0)
    assert seen["page_states"] == {row.ends: PAGES[row.memory]}


@pytest.mark.parametrize("strategy", ["uffd_wait", "no_slow_gup", "no_uffd_wait"])
@pytest.mark.parametrize("state", ["minor", "absent", "poisoned at the source"])
def test_rounds_hold_their_identities_with_races_and_several_vmm_processes(strategy: str, state: str) -> None:
    spec = dataclasses.replace(spec_of(strategy, "shmem", state, vcpus=4, readers=4), vcpus_per_vmm=1)
    ran = in_rounds(spec, 20)
    assert (ran.stop_reason, ran.unprepared, ran.wrong_words, ran.broken) == ("", 0, 0, [])
    assert [len(row["round_end_ns"]) for row in ran.rows] == [20] * 4
    for row in ran.rows:
        assert all(start < end for start, end in zip(row["round_start_ns"], row["round_end_ns"], strict=True))
        assert all(end <= start for end, start in zip(row["round_end_ns"], row["round_start_ns"][1:], strict=False))
        assert sum(row["round_pages"]) == row["guest_pages_resolved"]


def test_rounds_end_when_their_measured_time_is_reached() -> None:
    ran = in_rounds(spec_of("no_uffd_wait", "shmem", "minor"), rounds=1000, measure_s=0.01)
    measured = [end - start for row in ran.rows for start, end in zip(row["round_start_ns"], row["round_end_ns"], strict=True)]
    assert ran.rounds_ended == "measure_s"
    assert sum(measured) >= 9e6
    assert sum(measured[:-1]) < 10.5e6


def test_rounds_end_when_their_records_would_have_no_room() -> None:
    spec = dataclasses.replace(
        spec_of("no_uffd_wait", "shmem", "minor"), measure_s=3600.0, rounds_limit=1000, record_capacity=200
    )
    ran = run_in_process(spec)
    assert ran.rounds_ended == "records"
    assert len(ran.rows[0]["round_end_ns"]) == 3  # of 64 faults each, and an eighth to spare
    assert ran.vcpus["records_dropped"] == 0


def test_the_access_order_differs_from_round_to_round_and_not_from_run_to_run() -> None:
    spec = spec_of("no_uffd_wait", "shmem", "minor")
    spec = dataclasses.replace(spec, access=dataclasses.replace(spec.access, order="permutation"))
    first, second = in_rounds(spec), in_rounds(spec)
    orders = [
        tuple(page for number, page in zip(first.fault_rounds, first.fault_pages, strict=True) if number == one)
        for one in range(3)
    ]
    assert len(set(orders)) == 3
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert first.fault_pages == second.fault_pages


def test_each_fault_names_its_round() -> None:
    ran = in_rounds(spec_of("uffd_wait", "shmem", "absent"))
    assert Counter(ran.fault_rounds) == {0: 64, 1: 64, 2: 64}
