"""Runs made by hand, small enough to compute by hand what must come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from results.store.dataset import DataSet

KINDS = ("hit", "minor", "absent")
OUTCOMES = ("resolved", "waited", "lost_race")
FAULT_DTYPE = np.dtype(
    [(f"{stage}_ns", "<u8") for stage in ("intended", "raised", "delivered", "fetched", "installed", "resumed")]
    + [("page", "<u4"), ("cpu", "<u2"), ("kind", "u1"), ("outcome", "u1")]
)


def faults(latencies_ns: list[int], *, open_loop_lag_ns: int | None = None) -> npt.NDArray[np.void]:
    """Records of faults on pages 0, 1, ... with these latencies; nothing was fetched."""
    records = np.zeros(len(latencies_ns), FAULT_DTYPE)
    records["raised_ns"] = 10**15 + 1000 * np.arange(len(latencies_ns), dtype=np.uint64)
    records["delivered_ns"] = records["raised_ns"] + np.uint64(10)
    records["installed_ns"] = records["raised_ns"] + np.uint64(20)
    records["resumed_ns"] = records["raised_ns"] + np.array(latencies_ns, np.uint64)
    if open_loop_lag_ns is not None:
        records["intended_ns"] = records["raised_ns"] - np.uint64(open_loop_lag_ns)
    records["page"] = np.arange(len(latencies_ns))
    records["cpu"] = 3
    records["kind"] = 1
    records["outcome"] = np.arange(len(latencies_ns)) % 2
    return records


def run_row(**values: Any) -> dict[str, Any]:
    """A `runs` row that is ok: 1 000 000 pages, with `values` instead."""
    return {
        "status": "ok",
        "repeat": 0,
        "strategy": "uffd_wait",
        "fault_mix": "minor",
        "memory_type": "shmem",
        "page_bytes": 4096,
        "vcpus": 4,
        "cores": 2,
        "trips": 0,
        "emulated_exit_ns": 0.0,
        "pages_resolved": 1_000_000,
        "faults": 1_000_000,
        "host": "a-host",
        "kernel": "6.1.0",
        **values,
    }


EMULATED = ("probes_missed", "probes_found", "signals", "populates_refused", "populates_done")


def emulated(**made: int) -> dict[str, int]:
    """The counters of emulated operations, 0 but for those named."""
    return {f"emulated_{name}": made.get(name, 0) for name in EMULATED}


def vcpu_rows(seconds: float, **made: int) -> list[dict[str, Any]]:
    """Two vCPUs: they start together, the second ends `seconds` later, the first halfway. `made`: emulated operations of each."""
    start = 5_000_000_000
    ends = (start + int(seconds * 5e8), start + int(seconds * 1e9))
    return [
        {"vcpu": number, "start_ns": start, "end_ns": end, "pages_resolved": 500_000, "cpus": [0, number], **emulated(**made)}
        for number, end in enumerate(ends)
    ]


def thread_rows() -> list[dict[str, Any]]:
    """The threads of those vCPUs, the first of which did twice the work, and the driver."""
    vcpus = [
        {
            "role": "vcpu",
            "number": number,
            "vmm": 0,
            "tid": 100 + number,
            "user_ns": user_ns,
            "system_ns": 1_000,
            "cpus": [number],
        }
        for number, user_ns in enumerate((20_000, 10_000))
    ]
    return [*vcpus, {"role": "driver", "number": 0, "tid": 99, "user_ns": 500, "system_ns": 500}]


def store(
    dataset: DataSet,
    run_id: str,
    *,
    sweep_id: str = "sweep-1",
    seconds: float = 2.0,
    latencies_ns: list[int] | None = None,
    made: Mapping[str, int] | None = None,
    **values: Any,
) -> None:
    """Store one run of `seconds` with a fault record for each of `latencies_ns`; `made`: emulated operations of each vCPU."""
    with dataset.writer(run_id, sweep_id) as writer:
        if latencies_ns:
            records = faults(latencies_ns)
            writer.faults(KINDS, OUTCOMES).add(np.arange(len(records), dtype=np.uint16) % 2, records)
        of_both = emulated(**{name: 2 * count for name, count in (made or {}).items()})
        writer.commit(run_row(**{**of_both, **values}), vcpu_rows(seconds, **(made or {})), thread_rows())
