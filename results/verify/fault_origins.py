"""Whose the faults of one run are, and what each vCPU counted of them: place, CPU, page state, outcome, emulated operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from results.derive.net import operations
from results.schema import KINDS, OUTCOMES, ROUNDS_FROM

Row = Mapping[str, Any]

_CAPPED = 255
"""Emulated operations of a fault are counted up to this."""
_MOST_PAGES = 1 << 28
_UNSEEN = 255
_COLUMNS = ["vcpu", "page", "kind", "outcome", "cpu", "guest", "host", "write", "emulated_exits", "emulated_entries"]


class FaultOrigins:
    """Looks at the faults of a run batch by batch; `disagreements` once all have been added."""

    def __init__(self, run: Row, vcpus: Sequence[Row]) -> None:
        self._run = run
        self._vcpus = {vcpu["vcpu"]: vcpu for vcpu in vcpus} if _checked(run) else {}
        self._kinds: dict[int, npt.NDArray[np.uint8]] = {}
        self._two_kinds = self._misplaced = self._elsewhere = self._writes = 0
        self._outcomes = {number: dict.fromkeys(OUTCOMES, 0) for number in self._vcpus}
        self._emulated = {number: np.zeros(2, np.int64) for number in self._vcpus}
        self._capped: set[int] = set()

    def add(self, batch: pa.RecordBatch) -> None:
        """Look at a batch with every column of `faults`."""
        if not self._vcpus:
            return
        batch = batch.select(_COLUMNS)
        numbers = batch.column("vcpu").to_numpy()
        for number in np.unique(numbers).tolist():
            if number in self._vcpus:
                self._of_vcpu(number, batch.filter(pa.array(numbers == number)))

    def disagreements(self) -> Iterator[str]:
        """What was found."""
        if self._two_kinds:
            yield f"{self._two_kinds} faults are of another kind than one on the same page before"
        if self._misplaced:
            yield f"{self._misplaced} faults have another guest or host than their vCPU"
        if self._elsewhere:
            yield f"{self._elsewhere} faults were on a CPU that their vCPU did not run on"
        if self._writes:
            yield f"{self._writes} faults contradict read_share={self._run['read_share']}: all accesses read, or none does"
        for number, vcpu in self._vcpus.items():
            yield from (f"vCPU {number}: {what}" for what in (*self._of_outcomes(number, vcpu), *self._of_emulated(number, vcpu)))

    def _of_vcpu(self, number: int, batch: pa.RecordBatch) -> None:
        vcpu = self._vcpus[number]
        self._misplaced += batch.num_rows - _count(batch, {name: vcpu[name] for name in ("guest", "host")})
        if vcpu["cpus"]:
            cpu = batch.column("cpu").drop_null().to_numpy()
            self._elsewhere += int(np.count_nonzero(~np.isin(cpu, vcpu["cpus"])))
        if self._run.get("read_share") in (0, 1):
            self._writes += int(_count(batch, {"write": self._run["read_share"] == 1}))
        for outcome, count in _counted(batch.column("outcome")).items():
            self._outcomes[number][outcome] = self._outcomes[number].get(outcome, 0) + count
        for place, name in enumerate(("emulated_exits", "emulated_entries")):
            made = batch.column(name).fill_null(0).to_numpy()
            self._emulated[number][place] += int(made.sum(dtype=np.int64))
            if len(made) and int(made.max()) >= _CAPPED:
                self._capped.add(number)
        self._add_kinds(vcpu["guest"] or 0, batch)

    def _add_kinds(self, guest: int, batch: pa.RecordBatch) -> None:
        pages = self._run.get("pages") or 0
        if not 0 < pages <= _MOST_PAGES:
            return
        known = self._kinds.setdefault(guest, np.full(pages, _UNSEEN, np.uint8))
        names = batch.column("kind").dictionary.to_pylist()
        codes = np.array([KINDS.index(name) if name in KINDS else _UNSEEN for name in names], np.uint8)
        kind = codes[batch.column("kind").indices.fill_null(0).to_numpy()]
        page = batch.column("page").to_numpy()
        inside = (page < pages) & (kind != _UNSEEN)
        page, kind = page[inside], kind[inside]
        before = known[page]
        known[page] = np.where(before == _UNSEEN, kind, before)
        self._two_kinds += int(np.count_nonzero(known[page] != kind))

    def _of_outcomes(self, number: int, vcpu: Row) -> Iterator[str]:
        """At most as many faults ended in a way as were counted."""
        there = self._outcomes[number]
        limits = {
            "resolved": [vcpu.get("trips_resolved"), vcpu.get("resolved_again")],
            "populated": [vcpu.get("populate_ok")],
            "lost_race": [vcpu.get("lost_races")],
            "memory_error": [vcpu.get("memory_errors")],
        }
        for outcome, counts in limits.items():
            if None not in counts and there[outcome] > sum(count or 0 for count in counts):
                yield f"{there[outcome]} faults have the outcome {outcome}, and it counted {sum(count or 0 for count in counts)}"
        events = self._run.get("events")
        if events == 0 and there["waited"] and self._run.get("recoveries") == 0:
            yield f"{there['waited']} faults have the outcome waited, and no reader read an event"

    def _of_emulated(self, number: int, vcpu: Row) -> Iterator[str]:
        counted = operations(vcpu)
        if counted is None or number in self._capped:
            return
        mine = self._emulated[number].tolist()
        for what, of_faults, of_vcpu in zip(("exits", "stage-2 violations"), mine, counted, strict=True):
            if of_faults > of_vcpu:  # a mapped page may cost one without a fault
                yield f"its faults paid for {of_faults} emulated {what}, and it counted {of_vcpu}"


def _checked(run: Row) -> bool:
    return run["schema_version"] >= ROUNDS_FROM and run.get("run_kind") != "serve" and run["status"] == "ok"


def _counted(column: pa.Array) -> dict[str, int]:
    return {one["values"]: one["counts"] for one in column.cast(pa.string()).value_counts().to_pylist()}


def _count(batch: pa.RecordBatch, values: Mapping[str, Any]) -> int:
    """Rows that have all of these values; null is a value."""
    same = pa.array(np.ones(batch.num_rows, np.bool_))
    for name, value in values.items():
        column = batch.column(name)
        column = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
        equal = column.is_null() if value is None else pc.fill_null(pc.equal(column, value), False)
        same = pc.and_(same, equal)
    return int(pc.sum(same).as_py() or 0)
