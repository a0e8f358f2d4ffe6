"""A data set: a folder with `_schema.json` and, for each table, Parquet files partitioned by sweep, one a run.

    <data set>/runs/sweep_id=<sweep>/<run>.parquet      and the same for vcpus, threads and faults
    <data set>/_incoming/                               runs being written; readers never look there

A run is written outside the tables and renamed in, so that no reader meets half of it. Object stores have no rename,
but show an object only when it is complete.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs

from results.schema import COLUMNS, SCHEMA_VERSION, arrow_schema
from results.store.locations import DataSetError, Location, locate, reported
from results.store.run_writer import INCOMING, RunWriter, refuse_duplicate

__all__ = ["DataSet", "DataSetError", "RunWriter"]

_MARKER = "_schema.json"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_READ_AS_NUMBER_OR_DATE = re.compile(r"\d[\d.]*|0x.*|\d+-\d+-\d+|infinity|epoch", re.IGNORECASE)


class DataSet:
    """A data set: of this schema version to add runs to, of any version up to it to read.

    Columns and tables that an older version lacks are read as nulls and as no rows.
    """

    def __init__(self, location: Location, version: int) -> None:
        self.version = version
        self._location = location

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
        version = _version_held(location)
        if version is None:
            _refuse_foreign(location)
            _create(location)
        else:
            _refuse_to_mix(uri, version)
            with reported(uri, "write there"):
                _remove_after_writing(location)
        return cls(location, SCHEMA_VERSION)

    @classmethod
    def existing(cls, uri: str) -> DataSet:
        """Open a data set to read it. Raises DataSetError if there is none or it holds a newer schema version."""
        location = locate(uri)
        version = _version_held(location)
        if version is None:
            raise DataSetError(f"{uri}: no data set there (no {_MARKER}); `loadgen` makes one with its first run")
        return cls(location, version)

    def writer(self, run_id: str, sweep_id: str) -> RunWriter:
        """Begin a run. Raises DataSetError if it is already there or the data set holds an older schema version, ValueError
        for an id that cannot be a file name."""
        _refuse_to_mix(self.uri, self.version)
        for name, value in (("run_id", run_id), ("sweep_id", sweep_id)):
            if not _ID.fullmatch(value):
                raise ValueError(f"{name} {value!r}: only letters, digits and any of ._+- after the first")
        if _READ_AS_NUMBER_OR_DATE.fullmatch(sweep_id):
            raise ValueError(f"sweep_id {sweep_id!r}: readers would take the folder's name for a number or a date")
        with reported(self.uri, f"store run {run_id}"):
            refuse_duplicate(self._location, run_id)
        return RunWriter(self._location, run_id, sweep_id)

    def sweeps(self) -> list[str]:
        """Ids of the sweeps with at least one run, in order."""
        return sorted({path.split("sweep_id=", 1)[1].split("/", 1)[0] for path in self._files("runs", None)})

    def runs(self, sweep_id: str | None = None) -> list[dict[str, Any]]:
        """Whole rows of `runs` by column name, of all sweeps or one. Raises DataSetError for a sweep that is not there."""
        rows: list[dict[str, Any]] = self.read("runs", sweep_id=sweep_id).to_pylist()
        return rows

    def read(self, table: str, columns: Sequence[str] | None = None, sweep_id: str | None = None) -> pa.Table:
        """Rows of `table` (all its columns unless named), of all sweeps or one.

        Raises DataSetError for a column or sweep that is not there.
        """
        return pa.Table.from_batches(
            self.batches(table, columns, sweep_id),
            schema=pa.schema([arrow_schema(table).field(name) for name in self._checked(table, columns)]),
        )

    def batches(self, table: str, columns: Sequence[str] | None = None, sweep_id: str | None = None) -> Iterator[pa.RecordBatch]:
        """The same rows batch by batch, in bounded memory."""
        names = self._checked(table, columns)
        files = self._files(table, sweep_id)
        if not files and sweep_id is not None and sweep_id not in self.sweeps():
            raise DataSetError(f"{self.uri}: no sweep {sweep_id}; it has: {', '.join(self.sweeps()) or 'none'}")
        yield from self._batches(table, names, files)

    def batches_of_run(
        self, table: str, run_id: str, sweep_id: str, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of one run, batch by batch; none if the run left none in that table."""
        path = self._location.join(table, f"sweep_id={sweep_id}", f"{run_id}.parquet")
        with reported(self.uri, f"look for {table} of run {run_id}"):
            there = self._location.filesystem.get_file_info(path).type != pyarrow.fs.FileType.NotFound
        yield from self._batches(table, self._checked(table, columns), [path] if there else [])

    def _batches(self, table: str, names: list[str], files: list[str]) -> Iterator[pa.RecordBatch]:
        if not files:
            return
        with reported(self.uri, f"read {table}"):
            yield from pyarrow.dataset.dataset(
                files, schema=arrow_schema(table), filesystem=self._location.filesystem, format="parquet"
            ).to_batches(columns=names, batch_readahead=2, fragment_readahead=1)

    def run_ids(self, table: str) -> set[str]:
        """Ids of the runs with rows in `table`, by its files."""
        return {path.rpartition("/")[2].removesuffix(".parquet") for path in self._files(table, None)}

    def unfinished(self) -> list[str]:
        """Runs being written now, or left behind by a driver that was killed."""
        selector = pyarrow.fs.FileSelector(self._location.join(INCOMING), allow_not_found=True)
        with reported(self.uri, "list it"):
            found = self._location.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in found if not info.base_name.startswith(_MARKER))

    def remove_unfinished(self, sweep_id: str) -> list[str]:
        """Remove what a killed driver has left of runs of this sweep that have no row in `runs`: nobody may be writing it. The
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

    def _files(self, table: str, sweep_id: str | None) -> list[str]:
        folder = self._location.join(table) if sweep_id is None else self._location.join(table, f"sweep_id={sweep_id}")
        selector = pyarrow.fs.FileSelector(folder, recursive=True, allow_not_found=True)
        with reported(self.uri, "list it"):
            found = self._location.filesystem.get_file_info(selector)
        return sorted(info.path for info in found if info.path.endswith(".parquet"))


def _run_of(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".parquet")


def _version_held(location: Location) -> int | None:
    """The schema version of the data set that is there, None if none is; raises DataSetError for one this package cannot read."""
    path = location.join(_MARKER)
    with reported(location.uri, f"read its {_MARKER}"):
        info = location.filesystem.get_file_info(path)
        if info.type == pyarrow.fs.FileType.NotFound:
            return None
        with location.filesystem.open_input_stream(path) as stream:
            text = stream.read()
    try:
        version = int(json.loads(text)["schema_version"])
    except (ValueError, KeyError, TypeError):
        raise DataSetError(f"data set {location.uri}: its {_MARKER} makes no sense; use a data set elsewhere") from None
    if not 1 <= version <= SCHEMA_VERSION:
        raise DataSetError(
            f"data set {location.uri} holds schema version {version}, this package has version {SCHEMA_VERSION}: "
            f"use a data set elsewhere, or the release of this package that wrote it"
        )
    return version


def _refuse_to_mix(uri: str, version: int) -> None:
    if version != SCHEMA_VERSION:
        raise DataSetError(
            f"data set {uri} holds schema version {version} and can be read, but this package writes version "
            f"{SCHEMA_VERSION} and a data set holds one only: use a data set elsewhere for new runs"
        )


def _refuse_foreign(location: Location) -> None:
    with reported(location.uri, "look there"):
        if location.filesystem.get_file_info(location.path).type == pyarrow.fs.FileType.File:
            raise DataSetError(f"data set {location.uri} is a file: give a folder that is empty or not there yet")
        found = location.filesystem.get_file_info(pyarrow.fs.FileSelector(location.path, allow_not_found=True))
    foreign = sorted(info.base_name for info in found if info.base_name not in (_MARKER, INCOMING))
    if foreign:
        raise DataSetError(
            f"{location.uri} is not a data set: it has no {_MARKER} but holds {', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}; give a folder that is empty or not there yet"
        )


def _create(location: Location) -> None:
    with reported(location.uri, "create it"):
        path = _write_marker_aside(location)
        location.filesystem.move(path, location.join(_MARKER))


def _remove_after_writing(location: Location) -> None:
    location.filesystem.delete_file(_write_marker_aside(location))


def _write_marker_aside(location: Location) -> str:
    location.filesystem.create_dir(location.join(INCOMING), recursive=True)
    path = location.join(INCOMING, f"{_MARKER}-{uuid.uuid4().hex[:8]}")
    with location.filesystem.open_output_stream(path) as stream:
        stream.write(json.dumps({"schema_version": SCHEMA_VERSION, "tables": list(COLUMNS)}).encode())
    return path
