"""Rows of a table as CSV or JSON lines, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TextIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

FORMATS = ("csv", "jsonl")


def export(batches: Iterable[pa.RecordBatch], columns: list[str], form: str, out: TextIO) -> int:
    """Write the rows in `form` (one of FORMATS) and return how many. Null is an empty field or JSON's null."""
    return _export_csv(batches, columns, out) if form == "csv" else _export_jsonl(batches, out)


def _export_csv(batches: Iterable[pa.RecordBatch], columns: list[str], out: TextIO) -> int:
    as_needed = csv.WriteOptions(include_header=False, quoting_style="needed")
    out.write(",".join(columns) + "\n")
    count = 0
    for batch in batches:
        sink = pa.BufferOutputStream()
        csv.write_csv(_flat(batch), sink, as_needed)
        out.write(sink.getvalue().to_pybytes().decode())
        count += batch.num_rows
    return count


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Lists as text, their items apart by a space: CSV has none."""
    flat = [
        pc.binary_join(pc.cast(column, pa.list_(pa.string())), " ") if pa.types.is_list(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(flat, names=batch.schema.names)


def _export_jsonl(batches: Iterable[pa.RecordBatch], out: TextIO) -> int:
    count = 0
    for batch in batches:
        out.writelines(json.dumps(row, default=str) + "\n" for row in batch.to_pylist())
        count += batch.num_rows
    return count
