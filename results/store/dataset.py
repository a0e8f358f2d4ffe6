"""A data set: a folder with `_schema.json` and, for each table, Parquet files partitioned by sweep, one a run.

    <data set>/runs/sweep=<sweep>/<run>.parquet     and the same for vcpus, threads, rounds and faults
    <data set>/_incoming/                           runs being written; readers never look there
    <data set>/_plans/<sweep>.json                  what each sweep planned
    <data set>/_runs/<name>.parquet                 copies of rows of runs, many to a file (results/store/copies.py)

Up to schema version 2 a sweep's folder was named sweep_id=<sweep>. A run is written outside the tables and renamed in, so that
no reader meets half of it. Object stores have no rename, but show an object only when it is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from results.schema import COLUMNS, SCHEMA_VERSION, arrow_schema
from results.store.copies import ROWS, Copies, write_copy
from results.store.locations import DataSetError, Location, NoDataSet, locate, refuse_hive_folders, reported
from results.store.marker import INCOMING, MARKER, create, folder_of, refuse_foreign, refuse_to_mix, try_to_write, version_held
from results.store.parquet import read
from results.store.plans import planned_sweeps, read_plan, write_plan
from results.store.run_writer import RunWriter, refuse_duplicate

__all__ = ["DataSet", "DataSetError", "RunWriter"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_READ_AS_NUMBER_OR_DATE = re.compile(r"\d[\d.]*|0x.*|\d+-\d+-\d+|infinity|epoch", re.IGNORECASE)
_THREADS = 3
_AT_ONCE = 256
"""Files read ahead of the one that is wanted, by all threads."""


class DataSet:
    """A data set: of this schema version to add runs to, of any version up to it to read.

    Columns and tables that an older version lacks are read as nulls and as no rows.
    """

    def __init__(self, location: Location, version: int) -> None:
        self.version = version
        self._location = location
        self._begun = 0

    @property
    def uri(self) -> str:
        """The data set's address as the user wrote it."""
        return self._location.uri

    @classmethod
    def open(cls, uri: str) -> DataSet:
        """Open a data set to add runs, creating it if nothing is there.

        Raises DataSetError if it cannot be written, holds another schema version, or is a folder of something else.
        """
        location = locate(uri)
        refuse_hive_folders(location)
        version = version_held(location)
        if version is None:
            refuse_foreign(location)
            create(location)
        else:
            refuse_to_mix(uri, version)
            with reported(uri, "write there"):
                try_to_write(location)
        return cls(location, SCHEMA_VERSION)

    @classmethod
    def existing(cls, uri: str) -> DataSet:
        """Open a data set to read it. Raises DataSetError if there is none or it holds a newer schema version."""
        location = locate(uri)
        version = version_held(location)
        if version is None:
            raise NoDataSet(f"{uri}: no data set there (no {MARKER}); `loadgen` makes one with its first run")
        return cls(location, version)

    def writer(self, run_id: str, sweep_id: str) -> RunWriter:
        """Begin a run. Raises DataSetError if it is already there or the data set holds an older schema version, ValueError
        for an id that cannot be a file name."""
        refuse_to_mix(self.uri, self.version)
        for name, value in (("run_id", run_id), ("sweep_id", sweep_id)):
            if not _ID.fullmatch(value):
                raise ValueError(f"{name} {value!r}: only letters, digits and any of ._+- after the first")
        if _READ_AS_NUMBER_OR_DATE.fullmatch(sweep_id):
            raise ValueError(f"sweep_id {sweep_id!r}: readers would take the folder's name for a number or a date")
        with reported(self.uri, f"store run {run_id}"):
            refuse_duplicate(self._location, run_id)
        if self._begun and self._begun % ROWS == 0:
            self.copy_runs()
        self._begun += 1
        return RunWriter(self._location, run_id, sweep_id)

    def copy_runs(self) -> None:
        """Copy the rows of `runs` that have no copy, ROWS to a file; the rest waits until there are as many. A copy that cannot
        be written is left out: nothing but the time of a command depends on it."""
        with suppress(DataSetError):
            files = self._infos("runs", None)
            copies = Copies(self._location, ()) if len(files) >= ROWS else None
            left = [file for file in files if copies is not None and not copies.of(file)]
            for start in range(0, len(left) - ROWS + 1, ROWS):
                write_copy(self._location, left[start : start + ROWS])

    def plan(self, sweep_id: str, keys: Sequence[str]) -> None:
        """Store what a sweep plans, the plan key of each of its runs, beside what it planned before. Raises DataSetError."""
        write_plan(self._location, sweep_id, keys)

    def planned(self, sweep_id: str) -> list[str] | None:
        """The plan keys stored for a sweep; None where none were, as of a single job of another process's sweep."""
        return read_plan(self._location, sweep_id)

    def planned_sweeps(self) -> list[str]:
        """Ids of the sweeps whose plan is stored."""
        return planned_sweeps(self._location)

    def sweeps(self) -> list[str]:
        """Ids of the sweeps with at least one run, in order."""
        return sorted({path.rsplit("/", 2)[1].partition("=")[2] for path in self._files("runs", None)})

    def runs(self, sweep_id: str | None = None, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Rows of `runs` by column name (all columns unless named), of all sweeps or one. Raises DataSetError for a column or
        sweep that is not there."""
        names = self._checked("runs", columns)
        texts: dict[Any, Any] = {}  # most texts are those of the run before: each is kept once
        rows = []
        for batch in self._rows("runs", names, sweep_id):
            for row in batch.to_pylist():
                rows.append(
                    {name: texts.setdefault(value, value) if type(value) is str else value for name, value in row.items()}
                )
        return rows

    def read(self, table: str, columns: Sequence[str] | None = None, sweep_id: str | None = None) -> pa.Table:
        """Rows of `table` (all its columns unless named), of all sweeps or one.

        Raises DataSetError for a column or sweep that is not there.
        """
        names = self._checked(table, columns)
        return pa.Table.from_batches(self._rows(table, names, sweep_id), schema=_schema(table, names)).unify_dictionaries()

    def batches(self, table: str, columns: Sequence[str] | None = None, sweep_id: str | None = None) -> Iterator[pa.RecordBatch]:
        """The same rows batch by batch, in bounded memory."""
        names = self._checked(table, columns)
        yield from self._batches(table, names, [file.path for file in self._files_of(table, sweep_id)])

    def batches_of_run(
        self, table: str, run_id: str, sweep_id: str, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of one run, batch by batch; none if the run left none in that table."""
        path = self._location.join(table, folder_of(sweep_id, self.version), f"{run_id}.parquet")
        with reported(self.uri, f"look for {table} of run {run_id}"):
            there = self._location.filesystem.get_file_info(path).type != pyarrow.fs.FileType.NotFound
        yield from self._batches(table, self._checked(table, columns), [path] if there else [])

    def _batches(self, table: str, names: list[str], files: Iterable[str]) -> Iterator[pa.RecordBatch]:
        schema = _schema(table, names)
        for path in files:
            with reported(self.uri, f"read {path}"):
                yield from read(self._location.filesystem, path, schema)

    def _rows(self, table: str, names: list[str], sweep_id: str | None) -> Iterator[pa.RecordBatch]:
        """Rows in the order of their files; of `runs` from a copy where there is one."""
        files = self._files_of(table, sweep_id)
        copied = table == "runs" and len(files) >= ROWS
        copies = Copies(self._location, _schema(table, names)) if copied else None
        for there, group in groupby(files, copies.of if copies else lambda file: False):
            if copies is not None and there:
                yield from copies.rows(list(group))
            else:
                yield from self._at_once(table, names, [file.path for file in group])

    def _at_once(self, table: str, names: list[str], files: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The same, several files at a time."""

        def whole(path: str) -> list[pa.RecordBatch]:
            return list(self._batches(table, names, [path]))

        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(files), _AT_ONCE):
                for batches in pool.map(whole, files[start : start + _AT_ONCE]):
                    yield from batches

    def run_ids(self, table: str) -> set[str]:
        """Ids of the runs with rows in `table`, by its files."""
        return {path.rpartition("/")[2].removesuffix(".parquet") for path in self._files(table, None)}

    def torn(self, sweep_id: str) -> list[str]:
        """Files of this sweep that are not complete Parquet files: of a disk that was full, or of a copy that was cut short."""
        found = []
        for table in COLUMNS:
            for path in self._files(table, sweep_id):
                try:
                    pq.read_metadata(path, filesystem=self._location.filesystem)
                except (OSError, pa.ArrowException):
                    found.append(path)
        return found

    def stored(self) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
        """(sweep, run, its row as it was copied) of every file of `runs`, in order; None: it has no copy that counts."""
        files = self._infos("runs", None)
        copies = Copies(self._location, arrow_schema("runs")) if len(files) >= ROWS else None
        for file in files:
            copy = next(copies.rows([file])).to_pylist()[0] if copies is not None and copies.of(file) else None
            yield file.path.rsplit("/", 2)[1].partition("=")[2], _run_of(file.path), copy

    def unfinished(self) -> list[str]:
        """Runs being written now, or left behind by a driver that was killed."""
        selector = pyarrow.fs.FileSelector(self._location.join(INCOMING), allow_not_found=True)
        with reported(self.uri, "list it"):
            found = self._location.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in found if not info.base_name.startswith("_"))  # ids do not begin so

    def remove_unfinished(self, sweep_id: str) -> list[str]:
        """Remove what a killed driver has left of runs of this sweep that have no row in `runs`; no driver may be writing it. The
        ids of those runs. Raises DataSetError."""
        finished = {_run_of(path) for path in self._files("runs", sweep_id)}
        removed = {name.rpartition("-")[0] for name in self.unfinished() if name.startswith(f"{sweep_id}-")}
        with reported(self.uri, f"remove what is left of sweep {sweep_id}"):
            for name in self.unfinished():
                if name.startswith(f"{sweep_id}-"):
                    self._location.filesystem.delete_dir(self._location.join(INCOMING, name))
            for table in COLUMNS:
                for path in self._files(table, sweep_id):
                    if _run_of(path) not in finished:
                        self._location.filesystem.delete_file(path)
                        removed.add(_run_of(path))
        return sorted(removed)

    def _checked(self, table: str, columns: Sequence[str] | None) -> list[str]:
        known = [column.name for column in COLUMNS[table]]
        for name in columns or ():
            if name not in known:
                raise DataSetError(f"{table} has no column {name!r}; it has: {', '.join(known)}")
        return known if columns is None else list(columns)

    def _files_of(self, table: str, sweep_id: str | None) -> list[pyarrow.fs.FileInfo]:
        """The table's files. Raises DataSetError for a sweep that is not there."""
        files = self._infos(table, sweep_id)
        if not files and sweep_id is not None and sweep_id not in self.sweeps():
            raise DataSetError(f"{self.uri}: no sweep {sweep_id}; it has: {', '.join(self.sweeps()) or 'none'}")
        return files

    def _files(self, table: str, sweep_id: str | None) -> list[str]:
        return [info.path for info in self._infos(table, sweep_id)]

    def _infos(self, table: str, sweep_id: str | None) -> list[pyarrow.fs.FileInfo]:
        folder = self._location.join(table) if sweep_id is None else self._location.join(table, folder_of(sweep_id, self.version))
        selector = pyarrow.fs.FileSelector(folder, recursive=True, allow_not_found=True)
        with reported(self.uri, "list it"):
            found = self._location.filesystem.get_file_info(selector)
        return sorted((info for info in found if info.path.endswith(".parquet")), key=lambda info: info.path)


def _schema(table: str, names: Sequence[str]) -> pa.Schema:
    whole = arrow_schema(table)
    return pa.schema([whole.field(name) for name in names])


def _run_of(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".parquet")
