"""What the rows of `faults` of one run must be: whose they are, when they happened, how many of each kind and outcome."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from results.derive.rounds import starts_and_ends
from results.derive.stages import ENDS_NS
from results.schema import KINDS, OUTCOMES, STAGES_NS

Row = Mapping[str, Any]
Times = Mapping[str, npt.NDArray[np.int64]]

_ONCE = ("sequential", "permutation", "strided")
"""Access orders that visit a page once a pass."""
_MOST_VCPUS = 1 << 16


class RecordedFaults:
    """Looks at the faults of a run batch by batch; `disagreements` once all have been added."""

    def __init__(self, run: Row, vcpus: Sequence[Row]) -> None:
        self._run, self._vcpus = run, vcpus
        self._rows = self._foreign = self._beyond = self._outside = self._unknown_vcpu = 0
        self._disordered = dict.fromkeys(("raised_ns", *ENDS_NS), 0)
        self._kinds: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._by_vcpu = np.zeros(_MOST_VCPUS, np.int64)
        self._longest = np.zeros(_MOST_VCPUS, np.int64)
        self._places: list[npt.NDArray[np.int64]] = []
        self._starts, self._ends = _windows(vcpus)

    def add(self, batch: pa.RecordBatch) -> None:
        """Look at a batch with every column of `faults`."""
        self._rows += batch.num_rows
        for name in ("run_id", "sweep_id"):
            same = pc.equal(batch.column(name).cast(pa.string()), self._run[name])
            self._foreign += batch.num_rows - int(pc.sum(same).as_py() or 0)
        for name, counter in (("kind", self._kinds), ("outcome", self._outcomes)):
            counter.update(
                {one["values"]: one["counts"] for one in pc.value_counts(batch.column(name).cast(pa.string())).to_pylist()}
            )
        vcpu, page = batch.column("vcpu").to_numpy(), batch.column("page").to_numpy()
        self._by_vcpu += np.bincount(vcpu, minlength=_MOST_VCPUS)
        if self._run["pages"]:
            self._beyond += int(np.count_nonzero(page >= self._run["pages"]))
        rounds = batch.column("round").fill_null(0).to_numpy().astype(np.int64)
        if self._visits is not None:
            self._places.append((vcpu.astype(np.int64) << 48) | (rounds << 32) | page)
        times = {name: batch.column(name).fill_null(0).to_numpy() for name in STAGES_NS}
        self._add_times(vcpu, rounds, times)

    def disagreements(self) -> Iterator[str]:
        """What was found."""
        if self._foreign:
            yield f"{self._foreign} rows of faults in its file belong to another run or sweep"
        if (self._run["fault_records"] or 0) != self._rows:
            yield f"fault_records={self._run['fault_records']}, and faults has {self._rows} rows of it"
        if self._beyond:
            yield f"{self._beyond} faults are on pages beyond pages={self._run['pages']}"
        for name, count in self._disordered.items():
            if count:
                yield f"{count} faults have {name} before the stage ahead of it"
        if self._unknown_vcpu:
            yield f"{self._unknown_vcpu} faults are of vCPUs, or of rounds, that have no row"
        if self._outside:
            yield f"{self._outside} faults lie outside the time that their vCPU measured"
        yield from self._of_vcpus()
        yield from self._of_kinds()
        yield from self._of_outcomes()
        yield from self._twice()

    @property
    def _ok(self) -> bool:
        return bool(self._run["status"] == "ok")

    @property
    def _whole(self) -> bool:
        """Whether every fault of the run left a record. With a faults_limit of 0 none did, and none counts as dropped."""
        whole = self._ok and self._run["sample_every"] == 1 and not self._run["records_dropped"]
        return whole and json.loads(self._run["config_json"] or "{}").get("faults_limit") != 0

    @property
    def _visits(self) -> int | None:
        """How often a vCPU can fault on a page in a round; None where its order may come back to one at will."""
        run = self._run
        once = run.get("access_order") in _ONCE and run.get("accesses_per_pass") == 0 and run.get("passes")
        return int(run["passes"]) if once and run.get("recoveries") in (None, 0) else None

    def _add_times(self, vcpu: npt.NDArray[np.uint16], rounds: npt.NDArray[np.int64], times: Times) -> None:
        raised, resumed = times["raised_ns"], times["resumed_ns"]
        intended = times["intended_ns"]
        self._disordered["raised_ns"] += int(np.count_nonzero((intended != 0) & (raised != 0) & (raised < intended)))
        before = raised
        for name in ENDS_NS[:-1]:
            end = np.where(times[name] == 0, before, times[name])
            self._disordered[name] += int(np.count_nonzero(end < before))
            before = end
        # The wake-up comes from within the resolving call: the access may be done before that has returned.
        reached = np.where(times["fetched_ns"] == 0, np.maximum(raised, times["delivered_ns"]), times["fetched_ns"])
        self._disordered["resumed_ns"] += int(np.count_nonzero((resumed != 0) & (resumed < reached)))
        both = (raised != 0) & (resumed != 0)
        np.maximum.at(self._longest, vcpu[both], (resumed - raised)[both])
        known = (vcpu < self._starts.shape[0]) & (rounds < self._starts.shape[1])
        self._unknown_vcpu += int(np.count_nonzero(~known))
        start, end = self._starts[vcpu[known], rounds[known]], self._ends[vcpu[known], rounds[known]]
        early = (raised[known] != 0) & (raised[known] < start)
        self._outside += int(np.count_nonzero(early | (resumed[known] > end)))

    def _of_vcpus(self) -> Iterator[str]:
        for vcpu in self._vcpus:
            number = vcpu["vcpu"]
            recorded, rows = vcpu.get("recorded"), int(self._by_vcpu[number])
            if recorded is not None and recorded != rows:
                yield f"vCPU {number}: recorded={recorded}, and faults has {rows} rows of it"
            longest, mine = vcpu.get("longest_fault_ns"), int(self._longest[number])
            exact = self._run["schema_version"] > 2  # before, two conversions of ticks differed by up to 149 ppm
            if longest is None or not rows or not exact:
                continue
            if mine > longest + 1 or (self._whole and mine < longest - 1):
                yield f"vCPU {number}: longest_fault_ns={longest}, and its faults' is {mine}"

    def _of_kinds(self) -> Iterator[str]:
        run = self._run
        for kind in sorted(set(self._kinds) - set(KINDS)):
            yield f"kind {kind!r} is none of {', '.join(KINDS)}"
        if self._visits is None or run.get("overlap") or not self._ok:
            return
        most = self._visits * max(1, run.get("rounds") or 1)
        for kind in KINDS:
            prepared = run.get(f"{kind}_pages")
            if prepared is not None and self._kinds[kind] > prepared * most and not run.get("unprepared"):
                yield f"{self._kinds[kind]} faults of kind {kind}, and {kind}_pages={prepared} visited at most {most} times"

    def _of_outcomes(self) -> Iterator[str]:
        run = self._run
        for outcome in sorted(set(self._outcomes) - set(OUTCOMES)):
            yield f"outcome {outcome!r} is none of {', '.join(OUTCOMES)}"
        counted = {"memory_errors": "memory_error", "lost_races": "lost_race"}
        for column, outcome in counted.items():
            if self._whole and run.get(column) is not None and self._outcomes[outcome] != run[column]:
                yield f"{column}={run[column]}, and {self._outcomes[outcome]} faults ended so"
        if self._whole and run.get("faults") is not None and self._rows != run["faults"]:
            yield f"faults={run['faults']}, and {self._rows} left a record"

    def _twice(self) -> Iterator[str]:
        if not self._places or self._visits is None:
            return
        places = np.sort(np.concatenate(self._places))
        later = np.count_nonzero(places[self._visits :] == places[: -self._visits])
        if later:
            yield f"{later} faults come back to a page that their vCPU visits {self._visits} times a round"


def _windows(vcpus: Sequence[Row]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Start and end by (vCPU, round); where a round was not finished any time will do."""
    times = {vcpu["vcpu"]: starts_and_ends(vcpu) for vcpu in vcpus}
    shape = (max(times, default=-1) + 1, max(map(len, times.values()), default=0))
    starts, ends = np.full(shape, np.iinfo(np.int64).max), np.full(shape, np.iinfo(np.int64).min)
    for number, rounds in times.items():
        for index, (start, end) in enumerate(rounds):
            starts[number, index], ends[number, index] = start, end or np.iinfo(np.int64).max
    return starts, ends
