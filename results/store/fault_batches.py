"""Fault records as the vCPUs left them, turned into rows of `faults`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from results.derive.latencies import EMULATED
from results.schema import STAGES_NS, arrow_schema

ROWS_PER_GROUP = 1 << 16
"""Rows converted, and written as one row group, at a time: this bounds the memory beside the caller's chunk."""

_SCHEMA = arrow_schema("faults")


class FaultBatches:
    """Turns chunks of records of one guest into record batches of its run; ids and names are checked once."""

    def __init__(
        self,
        run_id: str,
        sweep_id: str,
        kinds: Sequence[str],
        outcomes: Sequence[str],
        guest: int = 0,
        host: str | None = None,
        exits: Sequence[str] = (),
    ) -> None:
        self._run_id = pa.array([run_id])
        self._sweep_id = pa.scalar(sweep_id, pa.string())
        self._kinds = pa.array(list(kinds), pa.string())
        self._outcomes = pa.array(list(outcomes), pa.string())
        self._guest = guest
        self._host = pa.array([] if host is None else [host], pa.string())
        self._exits = pa.array(list(exits), pa.string())

    def convert(
        self, vcpu: npt.NDArray[np.uint16], faults: npt.NDArray[np.void], rounds: npt.NDArray[np.uint16] | None = None
    ) -> Iterator[tuple[Mapping[str, npt.NDArray[np.int64]], pa.RecordBatch]]:
        """Yield the stages (int64 ns, 0 where it did not happen) with EMULATED, and the rows of each ROWS_PER_GROUP records.

        Everything is copied: the arrays may be reused afterwards. Raises ValueError for a code without a name.
        """
        for start in range(0, len(faults), ROWS_PER_GROUP):
            rows = slice(start, start + ROWS_PER_GROUP)
            block = faults[rows]
            stages = {name: block[name].astype(np.int64) for name in STAGES_NS}
            paid = {name: block[name].astype(np.int64) for name in EMULATED if name in (block.dtype.names or ())}
            yield stages | paid, self._batch(vcpu[rows], block, stages, None if rounds is None else rounds[rows])

    def _batch(
        self,
        vcpu: npt.NDArray[np.uint16],
        block: npt.NDArray[np.void],
        stages: Mapping[str, npt.NDArray[np.int64]],
        rounds: npt.NDArray[np.uint16] | None,
    ) -> pa.RecordBatch:
        constant = np.zeros(len(block), np.int32)
        columns: dict[str, Any] = {
            "run_id": pa.DictionaryArray.from_arrays(constant, self._run_id),
            "sweep_id": pa.repeat(self._sweep_id, len(block)),
            "vcpu": pa.array(vcpu.astype(np.uint16)),
            "page": pa.array(block["page"].astype(np.uint32)),
            "round": pa.nulls(len(block), pa.uint16()) if rounds is None else pa.array(rounds.astype(np.uint16)),
            "kind": _named(block["kind"], self._kinds, "kind"),
            "outcome": _named(block["outcome"], self._outcomes, "outcome"),
            "exit": self._exit(block),
            "cpu": _plain(block, "cpu", pa.uint16()),
            "guest": pa.array(np.full(len(block), self._guest, np.uint16)),
            "host": pa.DictionaryArray.from_arrays(constant if len(self._host) else pa.nulls(len(block), pa.int32()), self._host),
        }
        columns |= {name: _null_where_zero(values) for name, values in stages.items()}
        columns |= {name: _plain(block, name, pa.uint8()) for name in EMULATED}
        columns["write"] = _plain(block, "write", pa.bool_())
        return pa.RecordBatch.from_arrays([columns[name] for name in _SCHEMA.names], schema=_SCHEMA)

    def _exit(self, block: npt.NDArray[np.void]) -> pa.Array:
        if len(self._exits) == 0:  # records of a core without names of exits
            return pa.nulls(len(block), _SCHEMA.field("exit").type)
        return _named(block["exit"], self._exits, "exit")


def _plain(block: npt.NDArray[np.void], name: str, kind: pa.DataType) -> pa.Array:
    """A field as it is; null where the records do not have it."""
    there = name in (block.dtype.names or ())
    return pa.array(np.ascontiguousarray(block[name]), kind) if there else pa.nulls(len(block), kind)


def _named(codes: npt.NDArray[np.uint8], names: pa.Array, column: str) -> pa.DictionaryArray:
    if len(codes) and int(codes.max()) >= len(names):
        raise ValueError(f"{column} code {int(codes.max())} has no name among {names.to_pylist()}")
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), names)


def _null_where_zero(values: npt.NDArray[np.int64]) -> pa.Array:
    nulls = len(values) - int(np.count_nonzero(values))
    if nulls == 0:
        return pa.array(values)
    validity = np.packbits(values != 0, bitorder="little")
    return pa.Array.from_buffers(pa.int64(), len(values), [pa.py_buffer(validity), pa.py_buffer(values)], nulls)
