"""Columns of `runs` on NUMA nodes: where pages and threads were at the end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from loadgen.cluster.session import Seat
from loadgen.host.numa import nodes_of
from workers.reports import ServerReport, VmmReport


def node_columns(seats: Sequence[Seat], served: Sequence[ServerReport], vmms: Sequence[Sequence[VmmReport]]) -> dict[str, Any]:
    """Of all guests together; null where a host has no nodes."""
    if not all(seat.node.host.numa for seat in seats):
        return {"page_nodes": None, "vcpu_nodes": None, "reader_nodes": None}
    pages = [report.page_nodes for guest in vmms for report in guest]
    readers = [[thread for thread in one.threads if thread["role"] == "reader"] for one in served]
    vcpus = [[vcpu for report in guest for vcpu in report.vcpus] for guest in vmms]
    return {
        "page_nodes": [sum(on) for on in zip_longest(*pages, fillvalue=0)],
        "vcpu_nodes": _nodes(seats, vcpus),
        "reader_nodes": _nodes(seats, readers),
    }


def _nodes(seats: Sequence[Seat], threads: Iterable[Sequence[dict[str, Any]]]) -> list[int]:
    found: set[int] = set()
    for seat, of_guest in zip(seats, threads, strict=True):
        for thread in of_guest:
            found |= set(nodes_of(seat.node.host.numa, thread["cpus"]))
    return sorted(found)
