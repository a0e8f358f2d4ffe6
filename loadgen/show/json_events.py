"""`--json`: the events of a sweep as JSON, one object a line on stdout, for scripts. stdout has nothing else.

Every object has `event` and `sweep_id`; times are in the unit their name ends with; a value that was not measured is null.

- `sweep_started`: `runs` (number of runs to make), `stored` (runs of a resumed sweep that the data set has), `dataset`,
  `command`.
- `planned` (under dry_run, one a run, and nothing else): `run_id`, `title`, `seed`, `vcpu_cpus` and `reader_cpus` (a list a
  thread), `memory_bytes`, `estimated_s`.
- `waiting`: `why`, before a run that waits for its hosts.
- `run_started`: `run_id`, `number` (from 1), `title`.
- `look`, at most twice a second while a run is measured: `run_id`, `pages_resolved`, `pages_per_s` (since the event before),
  `latency_p99_ns` and `faults_by_kind` (so far), `done` (share of the accesses), `left_s` (of the run, at
  the rate so far), `stuck` (what a vCPU without progress for 2 s waits for, else empty).
- `run_ended`, once the run is stored: `run_id` and the columns ROW of its row.
- `sweep_ended`: `runs` (stored), `by_status` (runs by status), `not_trusted` (runs flagged as noisy).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from loadgen.plan.plan import PlannedRun
from loadgen.run.measured import Measured
from loadgen.run.progress_rate import ProgressRate
from loadgen.show.title import title

ROW = (
    "status",
    "reason",
    "trusted",
    "distrust",
    "strategy",
    "fault_mix",
    "memory_type",
    "vcpus",
    "cores",
    "repeat",
    "pages_resolved",
    "duration_s",
    "pages_per_s",
    "pages_per_s_net",
    "latency_p50_ns",
    "latency_p99_ns",
    "latency_p999_ns",
)


def emit(event: str, sweep_id: str, **values: Any) -> None:
    """Write one event, at once."""
    print(json.dumps({"event": event, "sweep_id": sweep_id, **values}), file=sys.stdout, flush=True)


def planned_runs(runs: Sequence[PlannedRun]) -> None:
    """The plan of a dry run."""
    for run in runs:
        emit(
            "planned",
            run.spec.sweep_id,
            run_id=run.spec.run_id,
            title=title(run),
            seed=run.spec.seed,
            vcpu_cpus=run.spec.placement.vcpu_cpus,
            reader_cpus=run.spec.placement.reader_cpus,
            memory_bytes=run.memory_bytes,
            estimated_s=run.estimated_s,
        )


class Events:
    """Writes the runs of a sweep as events."""

    def __init__(self, sweep_id: str) -> None:
        self._sweep_id = sweep_id
        self._number = 0

    def say(self, text: str) -> None:
        """`waiting`."""
        emit("waiting", self._sweep_id, why=text)

    def begin(self, planned: PlannedRun) -> None:
        """`run_started`."""
        self._number += 1
        self._spec, self._progress_rate = planned.spec, ProgressRate(planned.spec, len(planned.guests))
        emit("run_started", self._spec.sweep_id, run_id=self._spec.run_id, number=self._number, title=title(planned))

    def look(self, look: dict[str, Any]) -> None:
        """`look`."""
        now = self._progress_rate.take(look)
        emit(
            "look",
            self._spec.sweep_id,
            run_id=self._spec.run_id,
            pages_resolved=look["pages_resolved"],
            pages_per_s=now.pages_per_s,
            latency_p99_ns=now.latency_p99_ns,
            faults_by_kind=now.faults_by_kind,
            done=now.done,
            left_s=now.left_s,
            stuck=now.stuck,
        )

    def end(self, planned: PlannedRun, measured: Measured) -> None:
        """`run_ended`."""
        row = {name: measured.row.get(name) for name in ROW}
        emit("run_ended", planned.spec.sweep_id, run_id=planned.spec.run_id, **row)

    def close(self) -> None:
        """Nothing to restore."""
