"""One Parquet file of a table: how it is written, and read as the schema of today.

Each page carries a checksum, which every read checks: a flipped bit is an error and not a number. Files are opened one by one and
forgotten: what a reader keeps of a file's metadata is many times larger than the row of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from results.schema import COLUMNS, arrow_schema
from results.store.locations import DataSetError

WRITTEN: dict[str, Any] = {"compression": "lz4", "write_page_checksum": True, "write_statistics": False}
"""How every file is written."""

_FEW = 16
"""Rows up to which a dictionary beside a column's page is only another page to read: a run has one row of hundreds of columns."""

_IN_EVERY_TABLE = ("run_id", "sweep_id")
_ROWS = 1 << 16


def get_ready() -> None:
    """What the first conversion takes, done ahead: PyArrow then imports pandas, where there is one."""
    pa.array([0])


def write(table: pa.Table, filesystem: pyarrow.fs.FileSystem, path: str) -> None:
    """Write a whole table as one file."""
    pq.write_table(table, path, filesystem=filesystem, use_dictionary=table.num_rows > _FEW, **WRITTEN)


def read(filesystem: pyarrow.fs.FileSystem, path: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The columns of `schema` in the file, batch by batch; one that the file lacks is null, one of an older type is cast.

    Raises OSError (pyarrow's) where the file is torn or a checksum does not fit, DataSetError for a file of something else.
    """
    remote = not isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    with (
        filesystem.open_input_file(path) as source,
        pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=remote) as file,
    ):
        there = set(file.schema.names)  # of a list its element's; Arrow's schema takes several times as long to make
        if not there.issuperset(schema.names):
            there = set(file.schema_arrow.names)
        if not there.issuperset(_IN_EVERY_TABLE):
            raise DataSetError(f"{path} is not a file of a data set: it has no column run_id and sweep_id; move it elsewhere")
        present = [name for name in schema.names if name in there]
        if not present:
            yield _filled(schema, {}, file.metadata.num_rows)
            return
        for batch in file.iter_batches(_ROWS, columns=present, use_threads=False):
            yield _filled(schema, dict(zip(batch.schema.names, batch.columns, strict=True)), batch.num_rows)


def as_table(table: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of a table as Arrow; a missing key is null. Raises ValueError naming the column that does not fit."""
    rows = list(rows)
    columns = COLUMNS[table]
    known = [column.name for column in columns]
    unknown = sorted({key for row in rows for key in row} - set(known))
    if unknown:
        raise ValueError(f"{table} has no column {', '.join(unknown)}; its columns: {', '.join(known)}")
    arrays = []
    for column in columns:
        values = [row.get(column.name) for row in rows]
        if column.required and None in values:
            raise ValueError(f"{table}.{column.name} must not be null")
        value_type = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        try:
            array = pa.array(values, type=value_type)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise ValueError(f"{table}.{column.name}: {error}") from error
        arrays.append(array.dictionary_encode() if pa.types.is_dictionary(column.type) else array)
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table))


def _filled(schema: pa.Schema, columns: Mapping[str, pa.Array], rows: int) -> pa.RecordBatch:
    arrays = []
    for field in schema:
        array = columns.get(field.name)
        if array is None:
            array = pa.nulls(rows, field.type)
        elif array.type != field.type:
            array = array.cast(field.type)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
