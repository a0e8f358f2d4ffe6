"""The mmap_lock that a run's vCPUs took for reading, by the data set's column names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CAUSES = ("probe", "populate", "resolve", "fault")
"""What a vCPU was doing; `fault` is the kernel's own page fault."""


def lock_reads(vcpus: Sequence[Mapping[str, Any]]) -> dict[str, int | None]:
    """Sums over `vcpus`, by cause and in all; None where some vCPU could not count (or was not asked to)."""
    columns: dict[str, int | None] = {}
    for cause in CAUSES:
        counts = [vcpu.get(f"mmap_lock_reads_{cause}") for vcpu in vcpus]
        columns[f"mmap_lock_reads_{cause}"] = None if None in counts or not counts else sum(counts)  # type: ignore[arg-type]
    by_cause = list(columns.values())
    total = None if None in by_cause else sum(count or 0 for count in by_cause)
    return columns | {"mmap_lock_reads": total}
