"""Each identity of a run's columns, held and broken by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from results.derive.identities import EVENT_ENDS, PAGE_ENDS, TRIP_ENDS, broken
from results.store.dataset import DataSet
from tests.results.rows import run_row

RUN: dict[str, Any] = {
    "status": "ok",
    "source": "local",
    "pages": 8,
    "vcpus": 2,
    "vcpus_per_vmm": 1,
    "guests": 1,
    "accesses": 8,
    "faults": 8,
    "pages_resolved": 8,
    "access_order": "permutation",
    **dict(zip(PAGE_ENDS, (6, 0, 8, 1, 1), strict=True)),
}
VCPU: dict[str, Any] = {
    "accesses": 4,
    "faults": 4,
    "pages_resolved": 4,
    "guest_pages_resolved": 4,
    "trips": len(TRIP_ENDS),
    **dict.fromkeys(TRIP_ENDS, 1),
}
READER: dict[str, Any] = {"role": "reader", "number": 3, "events": len(EVENT_ENDS), **dict.fromkeys(EVENT_ENDS, 1)}


def found(
    run: dict[str, Any] | None = None, vcpu: dict[str, Any] | None = None, reader: dict[str, Any] | None = None
) -> list[str]:
    vcpus = [{**VCPU, "vcpu": 0}, {**VCPU, "vcpu": 1, **(vcpu or {})}]
    return list(broken({**RUN, **(run or {})}, vcpus, [{**READER, **(reader or {})}]))


def test_a_run_that_adds_up_breaks_none() -> None:
    assert found() == []


def test_a_page_in_flight_at_the_end_of_an_ok_run_is_reported_and_of_another_run_is_not() -> None:
    in_flight = {"ended_in_flight": 1, "ended_unresolved": 5}
    [said] = found(in_flight)
    assert said.startswith("ended_in_flight=1: ")
    assert found({**in_flight, "status": "stuck"}) == []


@pytest.mark.parametrize("column", PAGE_ENDS)
def test_every_page_ends_in_one_state_in_each_mapping(column: str) -> None:
    assert "17 pages ended in some state, of 8 in each of 2 mappings" in found({column: RUN[column] + 1, "status": "stuck"})


@pytest.mark.parametrize(("vcpus_per_vmm", "guests", "mappings"), [(2, 2, 2), (1, 1, 2), (1, 3, 6)])
def test_mappings_are_those_of_all_vmm_processes_of_all_guests(vcpus_per_vmm: int, guests: int, mappings: int) -> None:
    run = {"vcpus_per_vmm": vcpus_per_vmm, "guests": guests, "ended_unresolved": 8 * mappings - 10}
    assert found(run) == []
    assert len(found({**run, "guests": guests + 1})) == 1


@pytest.mark.parametrize("part", ["trips", *TRIP_ENDS])
def test_every_exit_ends_in_one_way(part: str) -> None:
    [said] = found(vcpu={part: VCPU[part] + 1})
    assert said.startswith(f"vCPU 1: trips={len(TRIP_ENDS) + (part == 'trips')}, and trips_resolved + ")


@pytest.mark.parametrize("part", ["events", *EVENT_ENDS])
def test_every_event_that_a_reader_read_ends_in_one_way(part: str) -> None:
    [said] = found(reader={part: READER[part] + 1})
    assert said.startswith(f"reader 3: events={len(EVENT_ENDS) + (part == 'events')}, and events_resolved + ")
    assert found({"source": "remote"}, reader={part: READER[part] + 1}) == []


@pytest.mark.parametrize("column", ["accesses", "faults", "pages_resolved"])
def test_the_run_counts_what_its_vcpus_count(column: str) -> None:
    assert found({column: 9}) == [f"{column}=9 of the run, and its vCPUs sum to 8"]
    assert found(vcpu={"guest_pages_resolved" if column == "pages_resolved" else column: None}) == []


def test_what_was_removed_was_announced() -> None:
    removes = {"track_removes": True, "balloon_method": "dontneed", "removes": 3, "pages_dropped": 4}
    assert found(removes) == ["removes=3, and the balloon dropped 4 pages"]
    for exempt in ({"balloon_method": "punch"}, {"track_removes": False}, {"status": "stuck"}, {"removes": None}, {"removes": 4}):
        assert found({**removes, **exempt}) == []


def test_without_accesses_there_are_no_faults() -> None:
    untouched = {"access_order": "none", "events": 2}
    assert [said.partition(" and ")[0] for said in found(untouched)] == ["faults=8", "events=2"]
    devices = {**untouched, "device_accesses": 5}
    assert [said.partition(" and ")[0] for said in found(devices)] == ["faults=8"], "devices raise events of their own"


@pytest.mark.parametrize(("status", "reason"), [("ok", "trips=1, and "), ("stuck", "a vCPU waits")])
def test_only_an_ok_run_is_stored_as_broken(tmp_path: Path, status: str, reason: str) -> None:
    dataset = DataSet.open(str(tmp_path))
    vcpus = [{"vcpu": 0, "trips": 1, **dict.fromkeys(TRIP_ENDS, 0)}]
    with dataset.writer("run-a", "sweep-1") as writer:
        row = writer.commit(run_row(status=status, reason="a vCPU waits", pages_resolved=None, faults=None), vcpus)
    assert row["status"] == ("broken" if status == "ok" else status)
    assert reason in row["reason"]
