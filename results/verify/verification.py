"""Whether a data set agrees with itself: every derived column computed again from the raw ones, every sum added up again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results.derive.columns import derive
from results.derive.identities import broken
from results.derive.latencies import EMULATED, FaultLatencies
from results.derive.net import operations
from results.derive.stages import ENDS_NS
from results.schema import COUNTERS, NET_COLUMNS, SCHEMA_VERSION, STAGES_NS, STATUSES
from results.store.dataset import DataSet

Row = Mapping[str, Any]

_OF_VCPUS_ALONE = ("requests", "lost_races")
"""Counted where the vCPU asks and again where it is answered, and once in `runs`."""

NET = {column.name for column in NET_COLUMNS}
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Disagreement:
    """What does not agree, in one run (empty: in the data set as a whole)."""

    run_id: str
    what: str


def verify(dataset: DataSet) -> Iterator[Disagreement]:
    """Everything in the data set that disagrees. Holds one run's latencies at a time, in 4 bytes each."""
    vcpus, threads = (_by_run(dataset, table) for table in ("vcpus", "threads"))
    runs = dataset.runs()
    known = {run["run_id"] for run in runs}
    for table, found in (("vcpus", set(vcpus)), ("threads", set(threads)), ("faults", dataset.run_ids("faults"))):
        yield from (Disagreement(run_id, f"has rows in {table} and none in runs") for run_id in sorted(found - known))
    for run in runs:
        mine = vcpus.get(run["run_id"], []), threads.get(run["run_id"], [])
        batches = dataset.batches_of_run("faults", run["run_id"], run["sweep_id"])
        yield from (Disagreement(run["run_id"], what) for what in verify_run(run, *mine, batches))


def verify_run(run: Row, vcpus: Sequence[Row], threads: Sequence[Row], batches: Iterator[pa.RecordBatch]) -> Iterator[str]:
    """A sentence for everything in the rows of one run that disagrees."""
    if run["schema_version"] > SCHEMA_VERSION:
        yield f"schema_version={run['schema_version']}, newer than {SCHEMA_VERSION}"
    if run["status"] not in STATUSES:
        yield f"status={run['status']!r} is none of {', '.join(STATUSES)}"
    latencies, faults = FaultLatencies(), _Faults(run)
    for batch in batches:
        faults.add(batch)
        latencies.add({name: batch.column(name).fill_null(0).to_numpy().astype(np.int64) for name in (*STAGES_NS, *EMULATED)})
    yield from faults.disagreements(vcpus)
    for name, again in derive(run, vcpus, latencies, threads).items():
        lacking = run[name] is None and run["schema_version"] < SCHEMA_VERSION  # derived since
        of_trips = name in NET and operations(run) is None  # stored before emulated operations were counted
        if not lacking and not of_trips and not _same(run[name], again):
            yield f"{name}={run[name]}, and computed again it is {again}"
    yield from _sums(run, vcpus, threads)
    if run["status"] == "ok":
        yield from broken(run, vcpus, threads)


class _Faults:
    """What the rows of `faults` of a run must be, batch by batch."""

    def __init__(self, run: Row) -> None:
        self._run = run
        self._rows = 0
        self._foreign = 0
        self._disordered = dict.fromkeys(ENDS_NS, 0)
        self._beyond = 0
        self._outcomes: dict[str, int] = {}
        self._by_vcpu = np.zeros(1 << 16, np.int64)

    def add(self, batch: pa.RecordBatch) -> None:
        """Look at a batch with every column of `faults`."""
        self._rows += batch.num_rows
        for name in ("run_id", "sweep_id"):
            self._foreign += batch.num_rows - int(
                pc.sum(pc.equal(batch.column(name).cast(pa.string()), self._run[name])).as_py() or 0
            )
        counts = np.bincount(batch.column("outcome").indices.to_numpy())
        for name, count in zip(batch.column("outcome").dictionary.to_pylist(), counts, strict=False):
            self._outcomes[name] = self._outcomes.get(name, 0) + int(count)
        self._by_vcpu += np.bincount(batch.column("vcpu").to_numpy(), minlength=1 << 16)
        if self._run["pages"]:
            self._beyond += int(np.count_nonzero(batch.column("page").to_numpy() >= self._run["pages"]))
        times = {name: batch.column(name).fill_null(0).to_numpy() for name in STAGES_NS}
        before = times["raised_ns"]
        for name in ENDS_NS:
            if name != "resumed_ns":
                end = np.where(times[name] == 0, before, times[name])
                self._disordered[name] += int(np.count_nonzero(end < before))
                before = end
        resumed = np.where(times["resumed_ns"] == 0, times["raised_ns"], times["resumed_ns"])
        self._disordered["resumed_ns"] += int(np.count_nonzero(resumed < times["raised_ns"]))

    def disagreements(self, vcpus: Sequence[Row]) -> Iterator[str]:
        """What was found."""
        if self._foreign:
            yield f"{self._foreign} rows of faults in its file belong to another run or sweep"
        if (self._run["fault_records"] or 0) != self._rows:
            yield f"fault_records={self._run['fault_records']}, and faults has {self._rows} rows of it"
        if self._beyond:
            yield f"{self._beyond} faults are on pages beyond pages={self._run['pages']}"
        for name, count in self._disordered.items():
            if count:
                yield f"{count} faults have {name} before the stage ahead of it"
        for vcpu in vcpus:
            recorded, rows = vcpu.get("recorded"), int(self._by_vcpu[vcpu["vcpu"]])
            if recorded is not None and recorded != rows:
                yield f"vCPU {vcpu['vcpu']}: recorded={recorded}, and faults has {rows} rows of it"
        whole = self._run["sample_every"] == 1 and not self._run["records_dropped"]
        errors = self._run["memory_errors"]
        if whole and errors is not None and self._outcomes.get("memory_error", 0) != errors:
            yield f"memory_errors={errors}, and {self._outcomes.get('memory_error', 0)} faults ended so"


def _sums(run: Row, vcpus: Sequence[Row], threads: Sequence[Row]) -> Iterator[str]:
    """Counters of the run against those of its vCPUs and of the page server's threads; the threads of a remote source's
    connections have no rows, so nothing is said of what they count."""
    if not vcpus or not threads:
        return
    serving = [row for row in threads if row["role"] not in ("vcpu", "driver")]
    for counter in COUNTERS:
        alone = counter.name in _OF_VCPUS_ALONE
        rows = vcpus if alone else [*vcpus, *serving]
        parts: list[Any] = [row[counter.name] for row in rows]
        if None in parts or run[counter.name] is None or (run["source"] == "remote" and not alone):
            continue
        if sum(parts) != run[counter.name]:
            whose = "its vCPUs" if alone else "its vCPUs and the page server's threads"
            yield f"{counter.name}={run[counter.name]}, and {whose} sum to {sum(parts)}"


def _same(stored: Any, again: Any) -> bool:
    if stored is None or again is None:
        return stored is again
    return math.isclose(stored, again, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _by_run(dataset: DataSet, table: str) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in dataset.read(table).to_pylist():
        rows.setdefault(row["run_id"], []).append(row)
    return rows
