"""A data set that `verify` finds nothing in, for tests that break one thing of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from results.app import main
from results.schema import COUNTERS, SCHEMA_VERSION
from results.store.dataset import DataSet
from results.store.parquet import as_table
from tests.results.rows import KINDS, OUTCOMES, faults, run_row, thread_rows, vcpu_rows

ZEROS = {counter.name: 0 for counter in COUNTERS}
CONFIG = {
    "strategy": {"name": "uffd_wait", "fault_around_pages": 1},
    "engine": {"guest_mode": "kernel"},
    "memory": {"type": "shmem", "page_bytes": 4096},
    "access": {"order": "permutation", "think_us": 1.5},
    "vcpus": 2,
    "cores": 0,
    "seed": 7,
    "repeat": 0,
    "guests": 1,
}
RUN = {
    **ZEROS,
    "vcpus": 2,
    "guests": 1,
    "vcpus_per_vmm": 1,
    "guest_hosts": "a-host",
    "page_server": "own",
    "involuntary_switches": 7,
    "trips": 1,
    "trips_resolved": 1,
    "pages": 8,
    "faults": 3,
    "sample_every": 1,
    "source": "local",
    "events": 3,
    "events_resolved": 3,
    "lost_races": 1,
    "access_order": "permutation",
    "accesses_per_pass": 0,
    "passes": 1,
    "think_ns": 1500,
    "minor_pages": 8,
    "absent_pages": 0,
    "hit_pages": 0,
    "swapped_pages": 0,
    "poisoned_pages": 0,
    "recoveries": 0,
    "wrong_words": 0,
    "config_json": json.dumps(CONFIG),
    "seed": 7,
    "plan_key": "key-a",
    "trusted": True,
    "machine_cpus": 2,
    "watched_s": 1.0,
    "schema_version": SCHEMA_VERSION,
    "rig_cpu_share": 0.1,  # of 2 CPUs
    "other_cpu_share": 0.15,
    "steal_share": 0.0,
    "throttled_s": 0.0,
}


def recorded() -> npt.NDArray[np.void]:
    """Three faults of vCPU 0, of 100, 200 and 300 ns, soon after its start; the last one lost a race."""
    records = faults([100, 200, 300])
    for stage in ("raised", "delivered", "installed", "resumed"):
        records[f"{stage}_ns"] -= np.uint64(10**15 - 5_000_000_010)
    records["installed_ns"][2] = 0
    records["outcome"] = [OUTCOMES.index(outcome) for outcome in ("resolved", "waited", "lost_race")]
    return records


def write_run(dataset: DataSet, run_id: str, **values: Any) -> None:
    vcpus = [
        {
            **row,
            **ZEROS,
            "guest": 0,
            "host": "a-host",
            "vmm": row["vcpu"],
            "cpus": [3],
            "recorded": 3 - 3 * row["vcpu"],
            "faults": 3 - 3 * row["vcpu"],
            "longest_fault_ns": 300 - 300 * row["vcpu"],
        }
        for row in vcpu_rows(1.0)
    ]
    vcpus[0] |= {"lost_races": 1, "trips": 1, "trips_resolved": 1}
    threads = [row | {"involuntary_switches": 3 - row["number"]} for row in thread_rows()]
    threads.append({"role": "reader", "number": 0, "involuntary_switches": 2, **ZEROS, "events": 3, "events_resolved": 3})
    with dataset.writer(run_id, "sweep-1") as writer:
        writer.faults(KINDS, OUTCOMES, host="a-host").add(np.zeros(3, np.uint16), recorded())
        writer.commit(run_row(**{**RUN, **values}), vcpus, threads)


def edit(folder: Path, table: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Rewrite the run's file of `table` with its rows changed."""
    file = folder / table / "sweep=sweep-1" / "run-a.parquet"
    rows = pq.read_table(file, partitioning=None).to_pylist()
    change(rows)
    pq.write_table(as_table(table, rows), file)


def found(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["verify", str(folder)]) == 1
    *lines, total = capsys.readouterr().out.splitlines()
    assert total == f"1 runs, {len(lines)} disagreements"
    return lines
