"""What must hold between the columns of a run whatever was raced: checked when a run is stored, and again by `verify`.

A run that breaks one is not `ok`: either the bookkeeping is wrong or something was lost, and no number of it can be believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

TRIP_ENDS = (
    "trips_resolved",
    "trips_lost",
    "trips_stopped",
    "resolved_again",
    "populate_ok",
    "retries",
    "memory_errors",
)
"""How an exit to user space ends; each one in exactly one of these."""

EVENT_ENDS = ("events_resolved", "resolved_again", "events_lost", "events_poisoned", "events_dropped")
"""How an event that a reader took ends; each one in exactly one of these."""

PAGE_ENDS = ("ended_unresolved", "ended_in_flight", "ended_resolved", "ended_poisoned", "ended_discarded")
"""The state of a page in a mapping's record when the run is over."""

PREPARED = ("hit_pages", "minor_pages", "absent_pages", "swapped_pages", "poisoned_pages")
"""Pages by the state they were proven to be in."""

SUMS_OF_VCPUS = {
    "accesses": "accesses",
    "faults": "faults",
    "pages_resolved": "guest_pages_resolved",
    "mappings_resolved": "pages_resolved",
}
"""Columns of `runs` that are sums over its vCPUs, and the column of `vcpus` that is summed."""

Row = Mapping[str, Any]


def broken(run: Row, vcpus: Sequence[Row], threads: Sequence[Row]) -> Iterator[str]:
    """A sentence for each identity that the run's rows break. Columns that are null are not checked.

    The rows are as they are stored; `threads` are those of this run, of every role.
    """
    for vcpu in vcpus:
        yield from _sum(vcpu, "trips", TRIP_ENDS, f"vCPU {vcpu.get('vcpu')}: ")
    if run.get("source") != "remote":  # its events end on the threads of its connections, which have no row
        for thread in threads:
            if thread.get("role") == "reader":
                yield from _sum(thread, "events", EVENT_ENDS, f"reader {thread.get('number')}: ")
    yield from _states(run)
    yield from _removes(run)
    for column, of_vcpu in SUMS_OF_VCPUS.items():
        parts: list[Any] = [vcpu.get(of_vcpu) for vcpu in vcpus]
        if run.get(column) is not None and parts and None not in parts and sum(parts) != run[column]:
            yield f"{column}={run[column]} of the run, and its vCPUs sum to {sum(parts)}"
    if run.get("access_order") == "none":
        untouched = ("faults",) if run.get("device_accesses") else ("faults", "events")
        yield from (f"{column}={run[column]} and no vCPU accessed a page" for column in untouched if run.get(column))


def _sum(row: Row, whole: str, parts: Sequence[str], whose: str) -> Iterator[str]:
    values: list[Any] = [row.get(part) for part in parts]
    if row.get(whole) is None or None in values:
        return
    total = sum(values)
    if total != row[whole]:
        yield f"{whose}{whole}={row[whole]}, and {' + '.join(parts)} is {total}"


def _removes(run: Row) -> Iterator[str]:
    """What is announced in its mapping is announced once, and read: a dropper waits for that."""
    announced = run.get("track_removes") and run.get("balloon_method") != "punch" and run.get("status") == "ok"
    if announced and run.get("removes") is not None and run["removes"] != run.get("pages_dropped"):
        yield f"removes={run['removes']}, and the balloon dropped {run.get('pages_dropped')} pages"


def _states(run: Row) -> Iterator[str]:
    ended: list[Any] = [run.get(column) for column in PAGE_ENDS]
    if None in ended or not run.get("pages") or not run.get("vcpus_per_vmm"):
        return
    mappings = run["vcpus"] // run["vcpus_per_vmm"] * (run.get("guests") or 1)
    if sum(ended) != run["pages"] * mappings:
        yield f"{sum(ended)} pages ended in some state, of {run['pages']} in each of {mappings} mappings"
    if run["ended_in_flight"] and run.get("status") == "ok":
        yield f"ended_in_flight={run['ended_in_flight']}: a claimed page was never settled"
