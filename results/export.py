"""Rows of a table as CSV or JSON lines, batch by batch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from typing import Any, TextIO

import pyarrow as pa

FORMATS = ("csv", "jsonl")


def export(batches: Iterable[pa.RecordBatch], columns: list[str], form: str, out: TextIO) -> int:
    """Write the rows in `form` (one of FORMATS) and return how many. Null is an empty field or JSON's null."""
    rows = (row for batch in batches for row in batch.to_pylist())
    return _export_csv(rows, columns, out) if form == "csv" else _export_jsonl(rows, out)


def _export_csv(rows: Iterable[dict[str, Any]], columns: list[str], out: TextIO) -> int:
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    count = 0
    for row in rows:
        writer.writerow({name: _flat(value) for name, value in row.items()})
        count += 1
    return count


def _export_jsonl(rows: Iterable[dict[str, Any]], out: TextIO) -> int:
    count = 0
    for row in rows:
        out.write(json.dumps(row, default=str) + "\n")
        count += 1
    return count


def _flat(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value
