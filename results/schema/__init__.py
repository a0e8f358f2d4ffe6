"""The tables of a data set, column by column, with units.

History
-------
- 2026-11-23, version 1: `runs`, `vcpus`, `faults`.
- 2026-11-24, version 2: the table `threads`. In `runs`: `command`, `job_overrides`, `plan_key`, `recover`, `recoveries`; how
  noisy the host was (`watched_s` to `distrust`); swapped and poisoned pages (`poisoned_at`, `on_memory_error`, `hold_ns`, `swap`,
  `swap_bytes`); `faults_per_s_net`, `engine_options`; faults injected into the page server (`drop_events_share` to
  `vanish_after_events`); how exits, events and pages ended (`trips_resolved` to `events_dropped`, `ended_`); several guests on
  several hosts (`guests`, `cluster`, `exclusive`, `guest_hosts`, `waited_s`, `start_gate_s`, `start_spread_ns`). In the other
  tables: `guest`, `host`; in `faults`: `exit`. Now derived: `achieved_delay_us`, `overhead_s`.
- 2026-11-25, version 2: disturbances (`disturb` to `device_mapping`, their counters and threads), the mmap_lock by cause
  (`mmap_lock_reads_`), `prefetch`, and the progress of each vCPU (`mark_ns` to `longest_fault_ns`).
- 2026-11-26, version 2: `blocks_offlined`, `prefetched_pages_per_s`, `emulated_s`, `latency_p50_net_ns`.
- 2026-11-27, version 2: `device_sleeps` and their lengths.
- 2026-11-29, version 3: `sweep_id` is plain text in the files, and a sweep's folder is `sweep=<sweep>`: readers make a column of
  a folder's name, pandas a dictionary and `pyarrow.dataset` a text, and no type in the files merged with both. Pages have
  checksums; what columns mean is in `_schema.json`. New: the table `rounds`, `round` in `faults`, `round_` in `vcpus`,
  `measure_s` to `rounds_ended` and `machine_cpus` in `runs`. A run is rounds: `duration_s` sums them, and what is computed from
  it is of all rounds.
  New: emulated operations (`emulated_probes_missed` to `emulated_populates_done`; in `faults` `emulated_exits` and
  `emulated_entries`) and their calibrations (`emulated_slow_gup_ns` to `emulated_entry_after_spread_ns`). Net is of these
  operations, no longer of trips (`results/derive/net.py`): brackets (`_net_low`, `_net_high`), `cpu_ns_per_page`. Rows of older
  versions keep the net they were stored with. The CPU quota and what it throttled (`cpu_quota`, `throttled_s`).
  New: `arrivals` of an open loop, whose vCPUs no longer start in phase; `page_waits`; `mappings_resolved`, and `pages_resolved`
  counts a page of several mappings once; in `vcpus` `guest_pages_resolved` and `bookkeeping_ns`.
  New: external fault handlers (`page_server` to `handler_message`, `memory_regions`, `handler_version` to
  `pages_brought_untouched`, `touched_50_ns` to `longest_stall_ns`; the role `handler` in `threads`, the outcome `external` in
  `faults`).
  New: replayed traces (`trace_speed` to `trace_accesses`, `late_p50_ns`, `late_p99_ns`); in `faults` `write`, and
  `cpu` may be null. Served VMMs (`run_kind`, `served_pages`, `zero_pages`, `service_p50_ns`, `service_p99_ns`); `wake_first`;
  `prefetch_skipped` and `prefetch_untouched`.
  New: `waiting_cpu_ns`, which `cpu_ns_per_page` leaves out.
  New: `source_contents` of snapshots that hold anything.
  New: NUMA nodes (`numa`, `page_nodes`, `vcpu_nodes`, `reader_nodes`).

To add a column, add one line to the file of its table (`runs.py`, `rows.py`, `counters.py`) and one to this history: under the
newest version until that version is released, under a new version afterwards. A data set holds one version. Older versions stay
readable: columns and tables they lack are read as nulls and as no rows. So nothing is renamed, removed or redefined.

Null means not measured, not applicable or, for a time, that it did not happen; it is never written as 0. Times in `_ns` columns
are CLOCK_MONOTONIC of the run's host. `started_at` is UTC, without a time zone in its type: DuckDB needs another package to read
one. `run_id` is a dictionary in every table, so that tables join without a cast.
"""

from __future__ import annotations

import pyarrow as pa

from results.schema.column import Column
from results.schema.counters import COUNTERS
from results.schema.rows import FAULT_COLUMNS, ROUND_COLUMNS, THREAD_COLUMNS, VCPU_COLUMNS
from results.schema.runs import NET_COLUMNS, RUN_COLUMNS
from results.schema.words import DISTURBERS, KINDS, OUTCOMES, ROLES, STAGES_NS, STATUSES

__all__ = [
    "COLUMNS",
    "COUNTERS",
    "DISTURBERS",
    "FAULT_COLUMNS",
    "KINDS",
    "NET_COLUMNS",
    "OUTCOMES",
    "ROLES",
    "ROUNDS_FROM",
    "ROUND_COLUMNS",
    "RUN_COLUMNS",
    "SCHEMA_VERSION",
    "STAGES_NS",
    "STATUSES",
    "THREAD_COLUMNS",
    "VCPU_COLUMNS",
    "Column",
    "arrow_schema",
]

SCHEMA_VERSION = 3
"""What this package writes; it reads every version from 1."""
ROUNDS_FROM = 3
"""The first version with rounds: its columns are all there, null where they do not apply."""

COLUMNS: dict[str, tuple[Column, ...]] = {
    "runs": RUN_COLUMNS,
    "vcpus": VCPU_COLUMNS,
    "faults": FAULT_COLUMNS,
    "threads": THREAD_COLUMNS,
    "rounds": ROUND_COLUMNS,
}


def arrow_schema(table: str) -> pa.Schema:
    """The Arrow schema of `table`, each field with its `unit` as metadata."""
    return pa.schema([pa.field(c.name, c.type, nullable=not c.required, metadata={"unit": c.unit}) for c in COLUMNS[table]])
