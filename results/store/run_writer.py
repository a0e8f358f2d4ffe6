"""One run on its way into a data set: nothing of it is in the tables before `commit`, all of it afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow.fs

from results.derive.columns import derive
from results.derive.identities import broken
from results.derive.latencies import FaultLatencies
from results.derive.net import doubted
from results.derive.rounds import round_rows
from results.schema import COLUMNS, SCHEMA_VERSION, STATUSES
from results.store.fault_batches import FaultBatches
from results.store.fault_file import FaultFile
from results.store.locations import DataSetError, Location, reported
from results.store.marker import INCOMING, folder_of
from results.store.parquet import as_table, write


class RunWriter:
    """Collects one run's rows outside the tables. As a context manager it discards the run unless it was committed."""

    def __init__(self, location: Location, run_id: str, sweep_id: str) -> None:
        self.run_id = run_id
        self.sweep_id = sweep_id
        self._location = location
        self._incoming = location.join(INCOMING, f"{run_id}-{uuid.uuid4().hex[:8]}")
        self._latencies = FaultLatencies()
        self._fault_file: FaultFile | None = None
        self._fault_records = 0
        self._ended = False
        with reported(location.uri, f"store run {run_id}"):
            location.filesystem.create_dir(self._incoming, recursive=True)

    def faults(
        self, kinds: Sequence[str], outcomes: Sequence[str], *, exits: Sequence[str] = (), guest: int = 0, host: str | None = None
    ) -> GuestFaults:
        """The place for one guest's fault records: `kinds`, `outcomes` and `exits` name their codes, `guest` and `host` are its
        number and its host. Without `exits` the records have no field `exit`, and its column is null."""
        self._require_open()
        return GuestFaults(self, FaultBatches(self.run_id, self.sweep_id, kinds, outcomes, guest, host, exits))

    def commit(
        self, run: Mapping[str, Any], vcpus: Sequence[Mapping[str, Any]], threads: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """Derive the rest, write the rows of `runs`, `vcpus`, `threads` and `rounds`, and let everything appear in the
        tables. Returns the row of `runs` as it was stored.

        Keys are columns of the schema; a missing one is null; derived columns are not to be given. Ids, the schema
        version and `fault_records` are filled in. The `runs` row appears last: where it is, the others are.
        Raises ValueError for a key or value that is not in the schema, DataSetError when the run cannot be stored;
        either way the run is discarded.
        """
        self._require_open()
        try:
            return self._commit(run, vcpus, threads)
        finally:
            self.discard()

    def discard(self) -> None:
        """Forget the run; nothing of it is or will be in the tables. Does nothing after `commit`."""
        if self._ended:
            return
        self._ended = True
        if self._fault_file is not None:
            with reported(self._location.uri, f"discard run {self.run_id}"):
                self._fault_file.abandon()
        with reported(self._location.uri, f"discard run {self.run_id}"):
            self._location.filesystem.delete_dir(self._incoming)

    def _add(
        self,
        batches: FaultBatches,
        vcpu: npt.NDArray[np.uint16],
        faults: npt.NDArray[np.void],
        rounds: npt.NDArray[np.uint16] | None,
    ) -> None:
        self._require_open()
        if len(vcpu) != len(faults):
            raise ValueError(f"{len(vcpu)} vCPU numbers for {len(faults)} fault records")
        if len(faults) == 0:
            return
        with reported(self._location.uri, f"store the faults of run {self.run_id}"):
            if self._fault_file is None:
                self._fault_file = FaultFile(self._location.filesystem, self._staged("faults"))
            for stages, batch in batches.convert(vcpu, faults, rounds):
                self._fault_file.write(batch)
                self._latencies.add(stages)
        self._fault_records += len(faults)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.discard()

    def _require_open(self) -> None:
        if self._ended:
            raise ValueError(f"run {self.run_id} has been committed or discarded")

    def _commit(
        self, run: Mapping[str, Any], vcpus: Sequence[Mapping[str, Any]], threads: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        ids = {"run_id": self.run_id, "sweep_id": self.sweep_id}
        fixed = {**ids, "schema_version": SCHEMA_VERSION, "fault_records": self._fault_records}
        given = [column.name for column in COLUMNS["runs"] if column.derived and column.name in run]
        if given:
            raise ValueError(f"{', '.join(given)}: derived by results, not to be given")
        if run.get("status") not in STATUSES:
            raise ValueError(f"status {run.get('status')!r} is none of {', '.join(STATUSES)}")
        run_row = {**run, **_agreeing(run, fixed), **derive(run, vcpus, self._latencies, threads)}
        run_row |= doubted(run_row)
        identities = list(broken(run_row, vcpus, threads))
        if run_row["status"] == "ok" and identities:
            run_row |= {"status": "broken", "reason": "; ".join(identities)}
        vcpu_rows = [{**row, **_agreeing(row, ids), **_times_that_happened(row)} for row in vcpus]
        thread_rows = [{**row, **_agreeing(row, ids)} for row in threads]
        tables = {
            "rounds": as_table("rounds", [{**row, **ids} for row in round_rows(vcpus)]),
            "threads": as_table("threads", thread_rows),
            "vcpus": as_table("vcpus", vcpu_rows),
            "runs": as_table("runs", [run_row]),
        }

        uri, filesystem = self._location.uri, self._location.filesystem
        staged = []
        with reported(uri, f"store run {self.run_id}"):
            if self._fault_file is not None:
                self._fault_file.close()
                staged.append("faults")
            for name, table in tables.items():
                if table.num_rows:
                    write(table, filesystem, self._staged(name))
                    staged.append(name)
            refuse_duplicate(self._location, self.run_id)
            for name in staged:
                folder = self._location.join(name, folder_of(self.sweep_id, SCHEMA_VERSION))
                filesystem.create_dir(folder, recursive=True)
                filesystem.move(self._staged(name), f"{folder}/{self.run_id}.parquet")
        return run_row

    def _staged(self, table: str) -> str:
        return f"{self._incoming}/{table}.parquet"


class GuestFaults:
    """Takes one guest's fault records on their way into a run."""

    def __init__(self, writer: RunWriter, batches: FaultBatches) -> None:
        self._writer, self._batches = writer, batches

    def add(
        self, vcpu: npt.NDArray[np.uint16], faults: npt.NDArray[np.void], rounds: npt.NDArray[np.uint16] | None = None
    ) -> None:
        """Add a chunk, as many times as there are chunks; the arrays may be reused on return.

        `vcpu`: uint16 (n,), `faults`: structured (n,) with the stages in ns (0: it did not happen), `page`, `cpu`, `kind` and
        `outcome`; `rounds`: uint16 (n,), the round each was raised in, null without. Raises ValueError for
        arrays that do not fit each other, DataSetError when the file cannot be written.
        """
        self._writer._add(self._batches, vcpu, faults, rounds)


def refuse_duplicate(location: Location, run_id: str) -> None:
    """Raise DataSetError if a run of this id is in the data set, in whatever sweep."""
    selector = pyarrow.fs.FileSelector(location.join("runs"), allow_not_found=True)
    sweeps = [info.path for info in location.filesystem.get_file_info(selector)]
    found = location.filesystem.get_file_info([f"{sweep}/{run_id}.parquet" for sweep in sweeps])
    for info in found:
        if info.type != pyarrow.fs.FileType.NotFound:
            raise DataSetError(
                f"data set {location.uri}: run {run_id} is already there ({info.path}); a run is never overwritten, "
                "give it another id or use a data set elsewhere"
            )


def _agreeing(row: Mapping[str, Any], fixed: Mapping[str, Any]) -> Mapping[str, Any]:
    for key, value in fixed.items():
        if row.get(key, value) != value:
            raise ValueError(f"{key} is {row[key]!r}, but this writer's is {value!r}")
    return fixed


def _times_that_happened(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) or None for name in ("start_ns", "end_ns")}
