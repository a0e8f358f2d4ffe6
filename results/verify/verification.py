"""Whether a data set agrees with itself: every derived column computed again from the raw ones, every sum added up again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from results.derive.columns import derive
from results.derive.identities import broken
from results.derive.latencies import EMULATED, FaultLatencies
from results.derive.net import operations
from results.derive.rounds import round_rows
from results.schema import COUNTERS, NET_COLUMNS, SCHEMA_VERSION, STAGES_NS, STATUSES
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.store.marker import COPIES
from results.verify.completeness import Sweeps, files_missing
from results.verify.described import contradictions, no_json
from results.verify.fault_origins import FaultOrigins
from results.verify.recorded_faults import RecordedFaults
from results.verify.rows_beneath import malformed, misplaced
from results.verify.trusted import misjudged

Row = Mapping[str, Any]

_OF_VCPUS_ALONE = ("requests", "lost_races", "stray_waits")
"""Counted for the vCPU and again by the thread that answers it, and once in `runs`."""

_OF_LOST_VCPUS_TOO = ("stray_waits",)
"""Counted by readers in `runs`: a vCPU whose VMM process was lost has no row, and its events were read."""

NET = {column.name for column in NET_COLUMNS}
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Disagreement:
    """What does not agree, in one run (empty: in the data set as a whole)."""

    run_id: str
    what: str


def verify(dataset: DataSet) -> Iterator[Disagreement]:
    """Everything in the data set that disagrees. Holds the faults of one run at a time, in 12 bytes each."""
    known = dataset.run_ids("runs")
    for table in ("vcpus", "threads", "rounds", "faults"):
        for run_id in sorted(dataset.run_ids(table) - known):
            yield Disagreement(run_id, f"has rows in {table} and none in runs")
    sweeps = Sweeps()
    for sweep_id, run_id, copy in dataset.stored():
        try:
            for what in _of_run(dataset, sweep_id, run_id, sweeps, copy):
                yield Disagreement(run_id, what)
        except DataSetError as error:
            yield Disagreement(run_id, f"cannot be read: {error}")
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:  # null where a number must be, and the like
            yield Disagreement(run_id, f"cannot be computed again: {type(error).__name__}: {error}")
    for sweep_id in sorted({*dataset.sweeps(), *dataset.planned_sweeps()}):
        yield from (Disagreement("", what) for what in sweeps.disagreements(sweep_id, dataset.planned(sweep_id)))


def _of_run(dataset: DataSet, sweep_id: str, run_id: str, sweeps: Sweeps, copy: Row | None) -> Iterator[str]:
    rows = {
        table: [row for batch in dataset.batches_of_run(table, run_id, sweep_id) for row in batch.to_pylist()]
        for table in ("runs", "vcpus", "threads", "rounds")
    }
    if len(rows["runs"]) != 1:
        yield f"has {len(rows['runs'])} rows in its file of runs"
        return
    run, vcpus, threads = rows["runs"][0], rows["vcpus"], rows["threads"]
    for table, of_table in rows.items():
        foreign = sum((row["run_id"], row["sweep_id"]) != (run_id, sweep_id) for row in of_table)
        if foreign:
            yield f"{foreign} rows of {table} in its file belong to another run or sweep"
    if run["run_id"] != run_id or run["schema_version"] is None:
        return  # a file of something else, which has been named
    if copy is not None and copy != run:
        differing = ", ".join(name for name in run if copy[name] != run[name])
        yield f"its copy in {COPIES} differs in {differing}; remove {COPIES}, which is made again"
    unusable = [*malformed(vcpus), *no_json(run)]
    yield from unusable
    if unusable:
        return
    yield from sweeps.add(run, vcpus)
    yield from misplaced(run, vcpus, threads)
    yield from files_missing(run, vcpus, threads, len(rows["rounds"]))
    yield from _rounds(rows["rounds"], vcpus)
    yield from verify_run(run, vcpus, threads, dataset.batches_of_run("faults", run_id, sweep_id))


def _rounds(stored: Sequence[Row], vcpus: Sequence[Row]) -> Iterator[str]:
    """The rows of `rounds` against those that the vCPUs' times give."""
    again = round_rows(vcpus) if stored else []
    if stored and len(stored) != len(again):
        yield f"has {len(stored)} rows in rounds, and its vCPUs give {len(again)}"
        return
    for row, computed in zip(stored, again, strict=True):
        for name, value in computed.items():
            if row[name] != value:
                yield f"round {row['round']}: {name}={row[name]}, and computed again it is {value}"


def verify_run(run: Row, vcpus: Sequence[Row], threads: Sequence[Row], batches: Iterator[pa.RecordBatch]) -> Iterator[str]:
    """A sentence for everything in the rows of one run that disagrees."""
    if run["schema_version"] > SCHEMA_VERSION:
        yield f"schema_version={run['schema_version']}, newer than {SCHEMA_VERSION}"
    if run["status"] not in STATUSES:
        yield f"status={run['status']!r} is none of {', '.join(STATUSES)}"
    latencies, faults, origins = FaultLatencies(), RecordedFaults(run, vcpus), FaultOrigins(run, vcpus)
    for batch in batches:
        faults.add(batch)
        origins.add(batch)
        latencies.add({name: batch.column(name).fill_null(0).to_numpy().astype(np.int64) for name in (*STAGES_NS, *EMULATED)})
    yield from faults.disagreements()
    yield from origins.disagreements()
    yield from contradictions(run)
    yield from misjudged(run, threads)
    for name, again in derive(run, vcpus, latencies, threads).items():
        lacking = run[name] is None and run["schema_version"] < SCHEMA_VERSION  # derived since
        of_trips = name in NET and operations(run) is None  # stored before emulated operations were counted
        if not lacking and not of_trips and not _same(run[name], again):
            yield f"{name}={run[name]}, and computed again it is {again}"
    yield from _sums(run, vcpus, threads)
    if run["status"] == "ok":
        yield from broken(run, vcpus, threads)


def _sums(run: Row, vcpus: Sequence[Row], threads: Sequence[Row]) -> Iterator[str]:
    """Counters of the run against those of its vCPUs and of the page server's threads; the threads of a remote source's
    connections have no rows, so their counters are not checked."""
    if not vcpus or not threads:
        return
    serving = [row for row in threads if row["role"] not in ("vcpu", "vmm", "handler", "driver")]
    for counter in COUNTERS:
        alone = counter.name in _OF_VCPUS_ALONE
        rows = vcpus if alone else [*vcpus, *serving]
        parts: list[Any] = [row[counter.name] for row in rows]
        if None in parts or (run["source"] == "remote" and not alone):
            continue
        if run[counter.name] is None and (run["schema_version"] < SCHEMA_VERSION or run["page_server"] != "own"):
            continue  # not counted then, or of a handler that is not ours
        lost = counter.name in _OF_LOST_VCPUS_TOO and len(vcpus) < (run["vcpus"] or 0) * (run["guests"] or 1)
        if run[counter.name] is None or sum(parts) > run[counter.name] or (sum(parts) < run[counter.name] and not lost):
            whose = "its vCPUs" if alone else "its vCPUs and the page server's threads"
            yield f"{counter.name}={run[counter.name]}, and {whose} sum to {sum(parts)}"


def _same(stored: Any, again: Any) -> bool:
    if stored is None or again is None:
        return stored is again
    return math.isclose(stored, again, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
