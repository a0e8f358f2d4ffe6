"""Traces: which page was touched when, by which vCPU, to read or to write. A file is Parquet or CSV with the columns `page`,
`time_ns`, `write` and `vcpu`, of which only `page` must be there, or a plain list of page numbers."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_BYTES = 4 << 30
COLUMNS = ("time_ns", "page", "write", "vcpu")
LARGEST = {"time_ns": (1 << 62) - 1, "page": (1 << 32) - 1, "write": 1, "vcpu": (1 << 16) - 1}
TYPES: Mapping[str, npt.DTypeLike] = {"time_ns": np.int64, "page": np.uint32, "write": np.bool_, "vcpu": np.uint16}
WORDS = {"false": 0, "true": 1, "r": 0, "w": 1}
PARQUET = b"PAR1"


class TraceError(ValueError):
    """A file that is no trace; the text names the line or the row."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Accesses in the order of their times. `time_ns` counts from the first of them. A column that was not recorded is empty."""

    page: npt.NDArray[np.uint32]
    time_ns: npt.NDArray[np.int64]
    write: npt.NDArray[np.bool_]
    vcpu: npt.NDArray[np.uint16]

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[int] | npt.NDArray[Any]]) -> Trace:
        """A trace of these columns; those that are missing or empty were not recorded."""
        found = {name: np.asarray(columns.get(name, ()), TYPES[name]) for name in COLUMNS}
        times = found["time_ns"]
        if len(times):
            order = np.argsort(times, kind="stable")
            found = {name: values[order] if len(values) else values for name, values in found.items()}
            found["time_ns"] = found["time_ns"] - found["time_ns"][0]
        return cls(**found)

    def __len__(self) -> int:
        return len(self.page)

    @property
    def vcpus(self) -> int:
        """vCPUs it is of, by the largest number; 0: not recorded."""
        return int(self.vcpu.max()) + 1 if len(self.vcpu) else 0

    @property
    def span_ns(self) -> int:
        """From the first access to the last; 0: not recorded."""
        return int(self.time_ns[-1]) if len(self.time_ns) else 0


def read_trace(path: str) -> Trace:
    """The trace in a file. Raises OSError where it cannot be read, TraceError for what is no trace."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise TraceError("not a regular file")
    if status.st_size > MOST_BYTES:
        raise TraceError(f"the file has {status.st_size} bytes, more than {MOST_BYTES}")
    with open(path, "rb") as file:
        magic = file.read(len(PARQUET))
    return Trace.of(_of_parquet(path) if magic == PARQUET else _of_text(path))


def write_trace(path: str, trace: Trace) -> None:
    """Write it as Parquet. Raises OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {one.name: getattr(trace, one.name) for one in fields(trace)}
    pq.write_table(pa.table({name: columns[name] for name in COLUMNS if len(columns[name])}), path, compression="zstd")


def _of_parquet(path: str) -> dict[str, npt.NDArray[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = [name for name in COLUMNS if name in file.schema_arrow.names]
        if "page" not in names:
            raise TraceError(f"no column page; it has: {', '.join(file.schema_arrow.names)}")
        table = file.read(names)
    except pa.ArrowException as error:
        raise TraceError(f"not a readable Parquet file: {str(error).splitlines()[0]}") from None
    return {name: _checked_column(name, table.column(name)) for name in names}


def _checked_column(name: str, column: Any) -> npt.NDArray[Any]:
    import pyarrow as pa

    if not (pa.types.is_integer(column.type) or (name == "write" and pa.types.is_boolean(column.type))):
        raise TraceError(f"column {name} is of type {column.type} and has to hold integers")
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise TraceError(f"row {row}: no {name}")
    values: npt.NDArray[Any] = column.to_numpy()
    wrong = np.flatnonzero((values < 0) | (values > LARGEST[name]))
    if len(wrong):
        raise TraceError(f"row {wrong[0]}: {name} {values[wrong[0]]} is not between 0 and {LARGEST[name]}")
    return values


def _of_text(path: str) -> dict[str, list[int]]:
    """Lines of a CSV file with a head, or page numbers, one or more a line; `#` starts a comment."""
    found: dict[str, list[int]] = {}
    with open(path, encoding="utf-8-sig", errors="replace") as file:  # a spreadsheet's CSV begins with a mark
        lines = _lines(file)
        for number, text in lines:
            if text[0].isdigit():
                found["page"] = [*_pages(number, text)]
                found["page"].extend(page for at, line in lines for page in _pages(at, line))
            else:
                found = {name: [] for name in _heads(number, text)}
                for at, line in lines:
                    _take_row(at, line, found)
    return found


def _lines(file: Any) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(file, 1):
        text = line.partition("#")[0].strip()
        if text:
            yield number, text


def _heads(number: int, text: str) -> list[str]:
    heads = [_bare(head) for head in text.split(",")]
    if "page" not in heads:
        raise TraceError(f"line {number}: {text[:40]!r} is not a page number, and no head with a column page")
    for head in heads:
        if head not in COLUMNS:
            raise TraceError(f"line {number}: column {head[:40]!r} is unknown: use {', '.join(COLUMNS)}")
        if heads.count(head) > 1:
            raise TraceError(f"line {number}: column {head} is there twice")
    return heads


def _take_row(number: int, text: str, into: dict[str, list[int]]) -> None:
    cells = text.split(",")
    if len(cells) != len(into):
        raise TraceError(f"line {number}: {len(cells)} values under {len(into)} heads")
    for name, cell in zip(into, cells, strict=True):
        word = _bare(cell)
        value = WORDS.get(word.lower()) if name == "write" else None
        into[name].append(_number(number, name, word) if value is None else value)


def _bare(cell: str) -> str:
    """Without the quotes that some writers of CSV put around each."""
    return cell.strip().strip('"')


def _pages(number: int, text: str) -> Iterator[int]:
    return (_number(number, "page", word) for word in text.split())


def _number(number: int, name: str, word: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise TraceError(f"line {number}: {word[:40]!r} is not a {'page number' if name == 'page' else name}")
    if len(word) > 19 or int(word) > LARGEST[name]:
        raise TraceError(f"line {number}: {name} {word[:40]} is more than {LARGEST[name]}")
    return int(word)
