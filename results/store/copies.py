"""Copies of the rows of `runs`, ROWS to a file, so that many runs are read without opening a file for each.

    <data set>/_runs/<name>.parquet     rows as they are in their own files, each with that file's size and time of change

A run's own file stays and is never changed. A copy counts for a file that is there and is as it was when it was copied; every
other file is read itself. So copies may be made at any time, by several drivers at once, and removed at any time; a reader sees
each run once whatever is being copied. A copy is written outside and moved in, as a run is.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from results.schema import SCHEMA_VERSION, arrow_schema
from results.store.locations import DataSetError, Location, reported
from results.store.marker import COPIES, INCOMING, folder_of
from results.store.parquet import WRITTEN, read

ROWS = 256
"""Runs without a copy are read file by file as long as they are fewer."""

_FILE = (pa.field("_file_bytes", pa.int64()), pa.field("_file_changed_ns", pa.int64()))
"""Columns of a copy that identify the state of the file it was made from."""

Stamp = tuple[int | None, int | None]


class Copies:
    """The copies in a data set, with some columns."""

    def __init__(self, location: Location, columns: Sequence[pa.Field]) -> None:
        """Read them. Raises DataSetError for one that cannot be read."""
        self._schema = pa.schema(columns)
        ids = [arrow_schema("runs").field(name) for name in ("sweep_id", "run_id")]
        needed = pa.schema(list({field.name: field for field in (*columns, *ids, *_FILE)}.values()))
        batches = [batch for path in _files(location) for batch in _read(location, path, needed)]
        self._rows = pa.Table.from_batches(batches, schema=needed).unify_dictionaries().combine_chunks()
        stamps = zip(*(self._rows.column(field.name).to_pylist() for field in (*ids, *_FILE)), strict=True)
        self._known: dict[str, tuple[int, Stamp]] = {
            location.join("runs", folder_of(sweep, SCHEMA_VERSION), f"{run}.parquet"): (number, (size, changed))
            for number, (sweep, run, size, changed) in enumerate(stamps)
        }

    def of(self, file: pyarrow.fs.FileInfo) -> bool:
        """Whether there is a copy of this file as it is."""
        return file.path in self._known and self._known[file.path][1] == _stamp(file)

    def rows(self, files: Sequence[pyarrow.fs.FileInfo]) -> Iterator[pa.RecordBatch]:
        """The rows of files that there are copies of, in their order."""
        numbers = [self._known[file.path][0] for file in files]
        yield from self._rows.select(self._schema.names).take(numbers).cast(self._schema).to_batches()


def write_copy(location: Location, files: Sequence[pyarrow.fs.FileInfo]) -> int:
    """Copy the rows of these files of `runs`; one that cannot be read, or is of another run, is left out. How many were copied.
    Raises DataSetError where nothing can be written."""
    schema = arrow_schema("runs")
    found = [(file, row) for file in files for row in _row(location, file, schema)]
    if not found:
        return 0
    rows = pa.Table.from_batches([row for _, row in found], schema=schema).unify_dictionaries()
    stamps = zip(*(_stamp(file) for file, _ in found), strict=True)
    for field, values in zip(_FILE, stamps, strict=True):
        rows = rows.append_column(field, pa.array(values, field.type))
    name = uuid.uuid4().hex
    aside = location.join(INCOMING, f"{COPIES}-{name}")
    with reported(location.uri, "copy the rows of runs"):
        location.filesystem.create_dir(location.join(COPIES), recursive=True)
        pq.write_table(rows.combine_chunks(), aside, filesystem=location.filesystem, **WRITTEN)
        location.filesystem.move(aside, location.join(COPIES, f"{name}.parquet"))
    return len(found)


def _row(location: Location, file: pyarrow.fs.FileInfo, schema: pa.Schema) -> list[pa.RecordBatch]:
    """The one row of a run's file; none where it is not its run's."""
    try:
        with reported(location.uri, f"read {file.path}"):
            [row] = read(location.filesystem, file.path, schema)
    except (DataSetError, ValueError):
        return []
    ids = [row.column(name).to_pylist() for name in ("sweep_id", "run_id")]
    own = [[file.path.rsplit("/", 2)[1].partition("=")[2]], [file.base_name.removesuffix(".parquet")]]
    return [row] if ids == own else []


def _files(location: Location) -> list[str]:
    selector = pyarrow.fs.FileSelector(location.join(COPIES), allow_not_found=True)
    with reported(location.uri, "list its copies"):
        found = location.filesystem.get_file_info(selector)
    return sorted(info.path for info in found if info.path.endswith(".parquet"))


def _read(location: Location, path: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with reported(location.uri, f"read {path} (remove it: it is a copy)"):
        yield from read(location.filesystem, path, schema)


def _stamp(file: pyarrow.fs.FileInfo) -> Stamp:
    return file.size, file.mtime_ns
