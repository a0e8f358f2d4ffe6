"""One column of a table, and the types that columns have."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

NAME = pa.dictionary(pa.int32(), pa.string())
TEXT = pa.string()
COUNT = pa.int64()
REAL = pa.float64()
NS = pa.int64()
BOOL = pa.bool_()
COUNTS = pa.list_(pa.int64())
TIMES = pa.list_(pa.int64())
TIME = pa.timestamp("us")


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, its unit ("" for names and flags) and one line of what it means.

    `required`: null is refused. `axis`: part of the configuration: runs that differ in it are no repeats of each other.
    `zero`: what 0 stands for where it is not a quantity. `derived`: computed by `results.derive.columns`, never given.
    """

    name: str
    type: pa.DataType
    unit: str
    doc: str
    required: bool = False
    axis: bool = False
    derived: bool = False
    zero: str = ""

    @property
    def meaning(self) -> str:
        """`doc`, with what 0 stands for where it is not a quantity."""
        return f"{self.doc}; 0: {self.zero}" if self.zero else self.doc
