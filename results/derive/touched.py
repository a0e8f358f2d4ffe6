"""How soon a guest had so much of its memory: from the progress marks of its vCPUs, and of the prefetcher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Step = tuple[int, int]
"""When, and pages that have come since the step before."""

SHARES = (50, 90, 100)


def touched(run: Row, vcpus: Sequence[Row]) -> dict[str, int | None]:
    """Under an external handler: ns from the common start until so many percent of the pages that were touched had been, and
    the longest stall of an access. None of another page server, whose pages are resolved before they are touched."""
    return progress(vcpus if run.get("page_server") == "external" else ())


def progress(vcpus: Sequence[Row]) -> dict[str, int | None]:
    """The same columns from the marks of the vCPUs alone."""
    columns: dict[str, int | None] = dict.fromkeys((*(f"touched_{share}_ns" for share in SHARES), "longest_stall_ns"))
    starts = [vcpu.get("start_ns") for vcpu in vcpus]
    if not starts or not all(starts):
        return columns
    start = min(int(at or 0) for at in starts)
    steps = sorted(step for vcpu in vcpus for step in steps_of(vcpu, "mark_ns", "mark_pages"))
    for share in SHARES:
        at = reached(steps, share)
        columns[f"touched_{share}_ns"] = None if at is None else at - start
    stalls = [vcpu["longest_fault_ns"] for vcpu in vcpus if vcpu.get("longest_fault_ns") is not None]
    return columns | {"longest_stall_ns": max(stalls, default=None)}


def steps_of(row: Row, at: str, pages: str) -> list[Step]:
    """The marks of one row, whose columns `at` and `pages` are lists."""
    steps, before = [], 0
    for when, count in zip(row.get(at) or (), row.get(pages) or (), strict=True):
        if count > before:
            steps.append((when, count - before))
        before = count
    return steps


def reached(steps: Sequence[Step], percent: int) -> int | None:
    """When so many percent of all pages of the steps, which are in order, had come; None without a step."""
    total, there = sum(pages for _, pages in steps), 0
    for at, pages in steps:
        there += pages
        if there * 100 >= total * percent:
            return at
    return None
