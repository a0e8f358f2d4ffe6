"""The rounds of a run, from what each vCPU noted of each: when it left the barrier, and when its last access was done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

Row = Mapping[str, Any]

NS_PER_S = 1_000_000_000


def starts_and_ends(vcpu: Row) -> list[tuple[int, int]]:
    """(start, end) in ns of each round of a vCPU, 0 where it did not happen. A row of before there were rounds has one."""
    starts, ends = vcpu.get("round_start_ns"), vcpu.get("round_end_ns")
    if starts is None or ends is None:
        return [(int(vcpu.get("start_ns") or 0), int(vcpu.get("end_ns") or 0))]
    return [(int(start), int(end)) for start, end in zip(starts, [*ends, *[0] * (len(starts) - len(ends))], strict=True)]


def round_rows(vcpus: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows of `rounds`, but for the ids: one a guest and a round that each of its vCPUs finished."""
    ordered = sorted(vcpus, key=lambda row: row.get("guest") or 0)
    return [row for guest, rows in groupby(ordered, key=lambda row: row.get("guest")) for row in _of_guest(guest, list(rows))]


def _of_guest(guest: int | None, vcpus: Sequence[Row]) -> Iterable[dict[str, Any]]:
    times = [starts_and_ends(vcpu) for vcpu in vcpus]
    for number, round_times in enumerate(zip(*times, strict=False)):
        if any(0 in both for both in round_times):
            return
        yield {
            "round": number,
            "first": number == 0,
            "guest": guest,
            "host": vcpus[0].get("host"),
            "start_ns": min(start for start, _ in round_times),
            "end_ns": max(end for _, end in round_times),
            "pages_resolved": _sum(vcpus, "round_pages", number),
            "cpu_ns": _sum(vcpus, "round_cpu_ns", number),
        }


def _sum(vcpus: Sequence[Row], column: str, number: int) -> int | None:
    lists = [vcpu.get(column) for vcpu in vcpus]
    return None if None in lists else sum(values[number] for values in lists if values is not None)


def measured_s(vcpus: Sequence[Row]) -> float | None:
    """Measured seconds of a run: of each round, last vCPU's end - first vCPU's start, summed. None when a vCPU did not start or
    end a round, or there is none.

    Clocks are compared within a host only: of several hosts the longest round stands.
    """
    times = [(row.get("host"), starts_and_ends(row)) for row in vcpus]
    if not times or any(0 in both for _, rounds in times for both in rounds):
        return None
    if len({len(rounds) for _, rounds in times}) != 1:
        return None
    hosts = {host for host, _ in times}
    total = 0
    for number in range(len(times[0][1])):
        on_hosts = [[rounds[number] for host, rounds in times if host == one] for one in hosts]
        total += max(max(end for _, end in host) - min(start for start, _ in host) for host in on_hosts)
    return total / NS_PER_S


def start_spread_ns(vcpus: Sequence[Row]) -> int | None:
    """Last start - first start of the round in which they lie furthest apart; None when a vCPU did not start."""
    times = [(row.get("host"), [start for start, _ in starts_and_ends(row)]) for row in vcpus]
    if not times or any(0 in starts for _, starts in times):
        return None
    spreads = [
        max(starts) - min(starts)
        for one in {host for host, _ in times}
        for starts in zip(*(starts for host, starts in times if host == one), strict=False)
    ]
    return max(spreads, default=None)
