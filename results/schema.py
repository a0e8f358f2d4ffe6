"""The tables of a data set, column by column, with units.

History
-------
- 2026-11-23, version 1: `runs`, `vcpus`, `faults`.
- 2026-11-24, version 2: the table `threads`; in `runs` `command`, `job_overrides`, `plan_key`, `recover`, `recoveries`, and
  what the driver saw of itself and of the machine while it measured (`watched_s` to `distrust`). `achieved_delay_us` and
  `overhead_s`, given by the driver before, are derived. Fault kinds `swapped` and `poisoned` with `poisoned_at`,
  `on_memory_error`, `hold_ns`, `swap`, `swap_bytes`, `faults_per_s_net`, `engine_options` and (in `faults`) `exit`, and the
  page server's faults made on purpose (`drop_events_share` to `vanish_after_events`); how
  every exit and every event ended (`trips_resolved` to `events_dropped`), and in which state every page did (`ended_`).
  Several guests on several hosts: `guests`, `cluster`, `exclusive`, `guest_hosts`, `waited_s`, `start_gate_s`,
  `start_spread_ns`, and in every other table `guest` and `host`. Nothing of version 1 was taken away or changed its meaning.
  2026-11-25: disturbances (`disturb` to `device_mapping`, what was achieved of them, their counters and threads), and the
  mmap_lock by cause (`mmap_lock_reads_`); `prefetch` with what its stream brought by when; how far each vCPU had got by when
  (`mark_ns` to `longest_fault_ns`). 2026-11-26: `blocks_offlined`,
  `prefetched_pages_per_s`, `emulated_s`, `latency_p50_net_ns`. 2026-11-27: `device_sleeps` and how long they took.

A column is added by one line here and a word in the history: in the newest version's line for as long as that version has
not been released, in a new version's afterwards. A data set holds one version only. Older ones stay readable: columns and
tables they lack come as nulls and as no rows, so nothing is ever renamed, taken away or given another meaning.

Null means not measured, not applicable or (for a time) that it did not happen: never 0. Points in time in `_ns`
columns are CLOCK_MONOTONIC of the run's host. `started_at` has no time zone in its type (it is UTC): with one, DuckDB
needs another package to hand it to Python. `sweep_id` is in the files and in their folders' names, of the dictionary
type with which every reader merges the two; `run_id` is a dictionary everywhere, so that tables join as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 2
"""What this package writes; it reads every version from 1."""

STATUSES = ("ok", "failed", "corrupt", "crashed", "stuck", "interrupted", "broken")

DISTURBERS = ("balloon", "migrator", "mmap_writer", "device")
"""Threads of disturbances."""

ROLES = ("vcpu", *DISTURBERS, "reader", "ring", "prefetch", "driver")
"""Whose a row of `threads` is: vCPUs, disturbances, the page server's readers, request rings and background stream, the driver's
process."""

STAGES_NS = ("intended_ns", "raised_ns", "delivered_ns", "fetched_ns", "installed_ns", "resumed_ns")
"""The times of a fault record, in the order they happen."""

_NAME = pa.dictionary(pa.int32(), pa.string())
_TEXT = pa.string()
_COUNT = pa.int64()
_REAL = pa.float64()
_NS = pa.int64()
_BOOL = pa.bool_()
_COUNTS = pa.list_(pa.int64())
_TIMES = pa.list_(pa.int64())
_TIME = pa.timestamp("us")


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, its unit ("" for names and flags) and one line of what it means.

    `required`: null is refused. `axis`: part of the configuration: runs that differ in it are no repeats of each other.
    `derived`: computed by `results.derive.columns`, never given.
    """

    name: str
    type: pa.DataType
    unit: str
    doc: str
    required: bool = False
    axis: bool = False
    derived: bool = False


COUNTERS = (
    Column("trips", _COUNT, "exits", "exits to user space with their handling"),
    Column("trips_resolved", _COUNT, "exits", "exits that installed their page"),
    Column("trips_lost", _COUNT, "exits", "exits whose resolve said EEXIST: somebody else was faster"),
    Column("trips_stopped", _COUNT, "exits", "exits while the run was being stopped"),
    Column("lost_races", _COUNT, "accesses", "somebody else resolved the page first"),
    Column("eexist", _COUNT, "calls", "resolving calls that said EEXIST"),
    Column("eagain", _COUNT, "calls", "resolving calls that said EAGAIN: layout changing, or partial"),
    Column("partial", _COUNT, "calls", "resolving calls that did part of their block"),
    Column("efault", _COUNT, "calls", "resolving calls that said EFAULT: the contents were not there"),
    Column("esrch", _COUNT, "calls", "resolving calls for a process that was gone"),
    Column("resolved_again", _COUNT, "pages", "pages taken away and installed once more, by an exit or for an event"),
    Column("retries", _COUNT, "exits", "exits answered by running again"),
    Column("populate_ok", _COUNT, "calls", "populating calls that did their work"),
    Column("populate_failed", _COUNT, "calls", "populating calls that failed"),
    Column("memory_errors", _COUNT, "accesses", "accesses to poisoned contents"),
    Column("pages_poisoned", _COUNT, "pages", "pages that UFFDIO_POISON poisoned, in each mapping"),
    Column("requests", _COUNT, "messages", "pages asked of the page server through the ring"),
    Column("requests_failed", _COUNT, "messages", "requests answered with an error"),
    Column("events", _COUNT, "events", "page-fault events read from userfaultfds"),
    Column("events_resolved", _COUNT, "events", "events a page was installed for"),
    Column("events_lost", _COUNT, "events", "events whose page was mapped already: the sleeper was only woken"),
    Column("events_poisoned", _COUNT, "events", "events a page was poisoned for"),
    Column("events_dropped", _COUNT, "events", "events not answered: the run was being stopped, or the process had gone"),
    Column("reads", _COUNT, "calls", "reads that returned at least one event"),
    Column("reads_empty", _COUNT, "calls", "reads that found nothing: none was left, or another reader had been faster"),
    Column("wakes", _COUNT, "calls", "UFFDIO_WAKE"),
    Column("deferred", _COUNT, "events", "events put off because the page was in somebody's hands"),
    Column("fetched_pages", _COUNT, "pages", "contents made by the page server"),
    Column("delays", _COUNT, "fetches", "fetches delayed on purpose"),
    Column("delay_ns", _COUNT, "ns", "achieved delays of those fetches, summed"),
    Column("prefetched_pages", _COUNT, "pages", "pages the background stream installed; file_map: read into the page cache"),
    Column("prefetch_late", _COUNT, "pages", "pages that somebody else had in hand when the stream came to install them"),
    Column("populate_waits", _COUNT, "events", "events of a vCPU asleep inside its own MADV_POPULATE_WRITE"),
    Column("stray_waits", _COUNT, "accesses", "accesses that slept in the kernel under a strategy meant to avoid it"),
    Column("unknown_events", _COUNT, "events", "events outside every region or of a kind not asked for"),
    Column("abandoned", _COUNT, "accesses", "accesses given up because the run was stopped"),
    Column("records_dropped", _COUNT, "faults", "faults without a slot left for their record"),
    Column("eagain_changing", _COUNT, "calls", "of eagain, nothing done: a remove event pending, or the layout changing"),
    Column("contents_lost", _COUNT, "runs", "runs of pages with one whose contents were found gone, and made again"),
    Column("removes", _COUNT, "events", "remove events read"),
    Column("pages_discarded", _COUNT, "pages", "pages of the record that they marked as dropped"),
    Column("device_waits", _COUNT, "events", "events of threads that are no vCPU: devices, which cannot exit"),
    Column("device_resolved", _COUNT, "pages", "pages resolved for them; no vCPU's pages_resolved has these"),
    Column("pages_dropped", _COUNT, "pages", "pages the balloon took away"),
    Column("compactions", _COUNT, "calls", "compactions the migrator had the kernel do, that came to their end"),
    Column("blocks_offlined", _COUNT, "blocks", "memory blocks the migrator took offline and brought back"),
    Column("pages_migrated", _COUNT, "pages", "guest pages that had another frame afterwards"),
    Column("maps", _COUNT, "calls", "pairs of mmap and munmap"),
    Column("device_accesses", _COUNT, "accesses", "accesses of devices, by system call"),
    Column("device_sleeps", _COUNT, "accesses", "of them, slept in the kernel: until the page was there, or for the mmap_lock"),
    Column("device_refused", _COUNT, "accesses", "of device_accesses, EFAULT because the mapping refuses to sleep"),
    Column("device_poisoned", _COUNT, "accesses", "of device_accesses, EFAULT because the page is poisoned"),
)

_LOCK_READS = tuple(
    Column(f"mmap_lock_reads_{cause}", _COUNT, "locks", f"of a vCPU's mmap_lock_reads, those taken by {what}")
    for cause, what in (
        ("probe", "the emulated fast GUP, which reads pagemap"),
        ("populate", "MADV_POPULATE_WRITE"),
        ("resolve", "resolving calls"),
        ("fault", "the kernel's own page faults"),
    )
)

RUN_COLUMNS = (
    Column("run_id", _NAME, "", "one measured phase of one configuration, one repeat; unique in the data set", True),
    Column("sweep_id", _NAME, "", "all runs of one command", True, axis=True),
    Column("schema_version", pa.int32(), "", "version of this schema", True),
    Column("repeat", pa.int32(), "", "number of the repeat, from 0"),
    Column(
        "status", _TEXT, "", "ok, failed, corrupt, crashed, stuck, interrupted, or broken (an identity of identities.py)", True
    ),
    Column("reason", _TEXT, "", "why the status is not ok"),
    Column("started_at", _TIME, "", "wall clock when the run began, in UTC"),
    # configuration
    Column("engine", _TEXT, "", "what touches pages and exits", axis=True),
    Column("engine_options", _TEXT, "", "every option of the engine, as sorted JSON, a choice by its name", axis=True),
    Column("strategy", _TEXT, "", "how an access to a page that is not mapped is handled", axis=True),
    Column("strategy_options", _TEXT, "", "every option of the strategy, as sorted JSON, a choice by its name", axis=True),
    Column("fault_mix", _TEXT, "", "page states prepared before the clock starts", axis=True),
    Column("memory_type", _TEXT, "", "shmem, hugetlb or anon", axis=True),
    Column("page_bytes", _COUNT, "bytes", "size of a page of the region", axis=True),
    Column("pages", _COUNT, "pages", "pages of page_bytes in the region", axis=True),
    Column("transparent_huge_pages", _BOOL, "", "whether the region may have transparent huge pages", axis=True),
    Column("cluster", _TEXT, "", "where Ray came from: local (ours, embedded) or existing", axis=True),
    Column("exclusive", _BOOL, "", "whether no other run could measure on its hosts meanwhile", axis=True),
    Column("guests", _COUNT, "guests", "guests of the run, all alike; counts are sums over them", axis=True),
    Column("vcpus", _COUNT, "vCPUs", "vCPUs of each guest", axis=True),
    Column("vcpus_per_vmm", _COUNT, "vCPUs", "vCPUs that share one VMM process", axis=True),
    Column("uffds_per_vmm", _COUNT, "userfaultfds", "userfaultfds a VMM's mapping is sharded over", axis=True),
    Column("cores", _COUNT, "CPUs", "CPUs the vCPUs and readers may use", axis=True),
    Column("readers", _COUNT, "threads", "reader threads of the page server", axis=True),
    Column("readers_per_uffd", _COUNT, "threads", "reader threads on each userfaultfd", axis=True),
    Column("wait", _TEXT, "", "how readers wait: poll, epoll or spin", axis=True),
    Column("events_per_read", _COUNT, "events", "most events one read may return", axis=True),
    Column("delay_us", _REAL, "us", "service delay asked of the page server", axis=True),
    Column("delay_distribution", _TEXT, "", "fixed or exponential", axis=True),
    Column("drop_events_share", _REAL, "1", "share of events the page server was made to forget", axis=True),
    Column("wake_every_ms", _REAL, "ms", "between two wake-ups of everybody, so that forgotten events come again", axis=True),
    Column("contents_bit", _BOOL, "", "whether readers go by it, not by a minor event, for complete contents", axis=True),
    Column("fill_pause_us", _REAL, "us", "pause made between the halves of a page filled in place", axis=True),
    Column("vanish_after_events", _COUNT, "events", "after which a reader closed its userfaultfds; 0: never", axis=True),
    Column("source", _TEXT, "", "where page contents come from: local, file or remote", axis=True),
    Column("source_cache", _TEXT, "", "whether the snapshot file was in the page cache at the start: warm or cold", axis=True),
    Column("source_address", _TEXT, "", "where the remote source listened"),
    Column("source_rtt_us", _REAL, "us", "round-trip time the remote source was asked to emulate", axis=True),
    Column("source_connections", _COUNT, "connections", "connections that ask the remote source for pages", axis=True),
    Column("source_push", _BOOL, "", "whether the remote source pushed what was not asked for", axis=True),
    Column("source_batch_pages", _COUNT, "pages", "most pages in a pushed frame", axis=True),
    Column("source_push_mib_per_s", _REAL, "MiB/s", "most it may push in a second; 0: as fast as it goes", axis=True),
    Column("prefetch", _TEXT, "", "what the page server brings unasked: none, order or working_set", axis=True),
    Column("prefetch_batch_pages", _COUNT, "pages", "most neighbours its background stream brings at a time", axis=True),
    Column("prefetch_mib_per_s", _REAL, "MiB/s", "most the stream may bring in a second; 0: as fast as it goes", axis=True),
    Column("access_order", _TEXT, "", "order in which a vCPU touches its pages", axis=True),
    Column("overlap", _BOOL, "", "whether all vCPUs touch the whole region", axis=True),
    Column("read_share", _REAL, "1", "share of accesses that read", axis=True),
    Column("passes", _COUNT, "passes", "times each vCPU goes over its accesses", axis=True),
    Column("accesses_per_pass", _COUNT, "accesses", "accesses of a vCPU in a pass; 0: one for each page", axis=True),
    Column("stride_pages", _COUNT, "pages", "step of the strided order", axis=True),
    Column("zipf_exponent", _REAL, "1", "exponent of the zipf order", axis=True),
    Column("think_ns", _NS, "ns", "pause of a vCPU between accesses", axis=True),
    Column("rate_per_s", _REAL, "accesses/s", "open-loop rate of each vCPU; 0: closed loop", axis=True),
    Column("hold_ns", _NS, "ns", "least time the measured phase lasts, touched or not", axis=True),
    Column("poisoned_at", _TEXT, "", "where poisoned pages were poisoned: source, or resolved (and the VMM not told)", axis=True),
    Column("on_memory_error", _TEXT, "", "what a memory error does: inject (tell the guest) or crash", axis=True),
    Column("swap", _TEXT, "", "swap set up for the run: none (what the host has itself), zram or file", axis=True),
    Column("swap_bytes", _COUNT, "bytes", "its size"),
    Column("disturb", _TEXT, "", "what went on beside the vCPUs, joined by +; none", axis=True),
    Column("balloon_per_s", _REAL, "pages/s", "pages the balloon was to drop; 0: none", axis=True),
    Column("balloon_method", _TEXT, "", "how: dontneed, remove or punch", axis=True),
    Column("track_removes", _BOOL, "", "whether userfaultfds told of removed pages", axis=True),
    Column("balloon_stage2", _TEXT, "", "whether a page's stage-2 entry went with it: dropped, or stale", axis=True),
    Column("migrator_per_s", _REAL, "pages/s", "guest pages that were to be migrated", axis=True),
    Column("mmap_writers", _COUNT, "threads", "threads of each VMM process that map and unmap", axis=True),
    Column("mmap_writer_per_s", _REAL, "pairs/s", "of all of them; 0: as fast as it goes", axis=True),
    Column("devices", _COUNT, "threads", "threads of each VMM process that reach the guest by system calls", axis=True),
    Column("device_per_s", _REAL, "accesses/s", "of all of them; 0: as fast as it goes", axis=True),
    Column("device_mapping", _TEXT, "", "through the vCPUs' mapping (same) or one of their own (second)", axis=True),
    Column("placement", _TEXT, "", "policy that pins vCPUs and readers", axis=True),
    Column("vcpu_cpus", _TEXT, "", "CPUs each vCPU may run on, as the plan wrote them", axis=True),
    Column("reader_cpus", _TEXT, "", "CPUs each reader may run on, as the plan wrote them", axis=True),
    Column("verify", _TEXT, "", "how much of the contents is checked: none, word or page", axis=True),
    Column("sample_every", _COUNT, "faults", "every how-many-th fault of a vCPU left a record", axis=True),
    Column("watchdog_s", _REAL, "s", "time without progress after which a run is ended"),
    Column("recover", _BOOL, "", "whether a page server that died was to be succeeded by another"),
    Column("seed", _COUNT, "", "seed of contents and access order"),
    Column("plan_key", _TEXT, "", "hash of the configuration and the repeat: by it a resumed sweep knows the run"),
    Column("config_json", _TEXT, "", "the whole resolved configuration, as JSON"),
    Column("command", _TEXT, "", "the command that repeats the sweep"),
    Column("job_overrides", _TEXT, "", "what sets this run's configuration apart in its sweep, as overrides"),
    # machine and software
    Column("host", _TEXT, "", "name of the host; of several, all in alphabetical order", axis=True),
    Column("guest_hosts", _TEXT, "", "the host of each guest in turn, comma joined"),
    Column("kernel", _TEXT, "", "kernel release", axis=True),
    Column("cpu_model", _TEXT, "", "model name of the CPU"),
    Column("host_cpus", _COUNT, "CPUs", "CPUs of the host"),
    Column("memory_bytes", _COUNT, "bytes", "memory of the host"),
    Column("userfaultfd_way", _TEXT, "", "device, syscall or user_mode_only"),
    Column("userfaultfd_features", _TEXT, "", "features the kernel offers, comma joined"),
    Column("clock_source", _TEXT, "", "tsc or clock_gettime"),
    Column("package_version", _TEXT, "", "version of this package"),
    Column("commit", _TEXT, "", "commit of this package, where known"),
    # what was prepared
    Column("hit_pages", _COUNT, "pages", "pages proven mapped before the clock started"),
    Column("minor_pages", _COUNT, "pages", "pages proven in the page cache and not mapped"),
    Column("absent_pages", _COUNT, "pages", "pages proven without contents"),
    Column("swapped_pages", _COUNT, "pages", "pages proven resolved and swapped out"),
    Column("poisoned_pages", _COUNT, "pages", "pages proven to be poisoned, or without contents when poisoned at the source"),
    Column("unprepared", _COUNT, "pages", "pages that were not in the state asked for"),
    Column("emulated_exit_ns", _REAL, "ns", "calibrated cost of one emulated exit on this host and memory type"),
    Column("waited_s", _REAL, "s", "waiting for hosts on which other runs measured, before the run began"),
    Column("start_gate_s", _REAL, "s", "by no more did guests of different hosts start apart; null with one guest"),
    # what was measured
    Column("accesses", _COUNT, "accesses", "accesses done by all vCPUs"),
    Column("faults", _COUNT, "faults", "accesses that found the page not mapped"),
    Column("pages_resolved", _COUNT, "pages", "distinct pages of page_bytes resolved for vCPUs; prefetched_pages come on top"),
    Column("fault_records", _COUNT, "rows", "rows of this run in faults"),
    Column(
        "mmap_lock_reads", _COUNT, "locks", "mmap_lock taken for reading by vCPUs; null where it was not, or cannot be, counted"
    ),
    *_LOCK_READS,
    *(
        Column(f"ended_{state}", _COUNT, "pages", f"pages that ended {state.replace('_', ' ')}, summed over mappings")
        for state in ("unresolved", "in_flight", "resolved", "poisoned", "discarded")
    ),
    *(Column(f"{role}_achieved_per_s", _REAL, "1/s", f"what {role} threads did of what was asked") for role in DISTURBERS),
    *(
        Column(f"device_sleep_{what}_ns", _NS, "ns", f"{text} of a device_sleeps access; null: none")
        for what, text in (("p50", "median length, to 3 %,"), ("p99", "99th percentile, to 3 %,"), ("max", "greatest length"))
    ),
    Column("not_achieved", _TEXT, "", "disturbances that did less than 0.9 of what was asked; null: none"),
    Column("pages_gone", _COUNT, "pages", "pages that ended as resolved and were not there: dropped, and nobody told the VMM"),
    Column("wrong_words", _COUNT, "words", "words of contents that were not what they should have been"),
    Column("recoveries", _COUNT, "page servers", "page servers that died while the run was measured and were succeeded"),
    Column("idle_actors", _COUNT, "actors", "Ray actors alive on the host that had no part in the run"),
    *COUNTERS,
    Column("fetched_on_demand", _COUNT, "pages", "pages whose contents came because they were asked for"),
    Column("fetched_pushed", _COUNT, "pages", "pages whose contents the remote source pushed"),
    Column("fetched_twice", _COUNT, "pages", "pages that came while they were here or asked for already, and were dropped"),
    Column("source_requests", _COUNT, "requests", "requests to the remote source, those asked again among them"),
    Column("source_retries", _COUNT, "requests", "requests asked again after a time-out or a lost connection"),
    Column("source_bytes", _COUNT, "bytes", "bytes received from the remote source"),
    Column("source_rtt_p50_us", _REAL, "us", "median time from a request to the last page of its answer"),
    Column("prefetch_mark_ns", _TIMES, "ns", "when the background stream had brought prefetch_mark_pages, in turn"),
    Column("prefetch_mark_pages", _COUNTS, "pages", "prefetched_pages at each of prefetch_mark_ns"),
    # where the time went
    Column("fill_s", _REAL, "s", "filling the region"),
    Column("prepare_s", _REAL, "s", "preparing and proving page states"),
    Column("verify_s", _REAL, "s", "reading every resolved page in full"),
    Column("store_s", _REAL, "s", "storing the fault records"),
    Column("wall_s", _REAL, "s", "the whole run"),
    # what the driver saw of itself and of the machine meanwhile, rules in loadgen's self_watch.py
    Column("watched_s", _REAL, "s", "from its look at the machine before the measured phase to the one after it"),
    Column("rig_cpu_share", _REAL, "CPUs", "used by driver, Ray and actors beside the threads that are measured"),
    Column("idle_actors_cpu_share", _REAL, "CPUs", "used by the same while nothing ran: the cost of idle Ray actors"),
    Column("driver_cpu_share", _REAL, "CPUs", "used by the driver's own process"),
    Column("driver_lag_s", _REAL, "s", "most by which a look at the run came late; null without a look"),
    Column("other_cpu_share", _REAL, "CPUs", "used by whatever is not ours"),
    Column("steal_share", _REAL, "CPUs", "taken away by the hypervisor"),
    Column("load_average", _REAL, "tasks", "the kernel's load average of the minute before"),
    Column("involuntary_switches", _COUNT, "switches", "of vCPU and reader threads: somebody else wanted their CPU"),
    Column("trusted", _BOOL, "", "whether nothing was seen that speaks against the run; null if it was not measured"),
    Column("distrust", _TEXT, "", "what speaks against it"),
    # derived, formulas in derive.py
    Column("achieved_delay_us", _REAL, "us", "mean service delay achieved", derived=True),
    Column("overhead_s", _REAL, "s", "everything but fill, measured phase and full verification", derived=True),
    Column("duration_s", _REAL, "s", "measured phase: last vCPU's end - common start; the longest host's", derived=True),
    Column("start_spread_ns", _NS, "ns", "most by which vCPUs of one host started apart", derived=True),
    Column("pages_per_s", _REAL, "pages/s", "pages_resolved / duration_s", derived=True),
    Column("pages_per_s_net", _REAL, "pages/s", "the same, net of the cost of emulated exits", derived=True),
    Column("prefetched_pages_per_s", _REAL, "pages/s", "prefetched_pages / duration_s: none is in pages_per_s", derived=True),
    Column("emulated_s", _REAL, "s", "of duration_s, the emulated exits: what the rates net of them leave out", derived=True),
    Column("pages_4kib_per_s", _REAL, "4-KiB pages/s", "pages_per_s in pages of 4 KiB", derived=True),
    Column("faults_per_s", _REAL, "faults/s", "faults / duration_s", derived=True),
    Column("faults_per_s_net", _REAL, "faults/s", "the same, net of the cost of emulated exits", derived=True),
    Column("latency_p50_ns", _NS, "ns", "median of resumed - raised", derived=True),
    Column("latency_p50_net_ns", _REAL, "ns", "latency_p50_ns without a fault's emulated exits, on average", derived=True),
    Column("latency_p99_ns", _NS, "ns", "99th percentile of resumed - raised", derived=True),
    Column("latency_p999_ns", _NS, "ns", "99.9th percentile of resumed - raised", derived=True),
    Column("latency_open_p50_ns", _NS, "ns", "median of resumed - intended; null in the closed loop", derived=True),
    Column("latency_open_p99_ns", _NS, "ns", "99th percentile of resumed - intended", derived=True),
    Column("latency_open_p999_ns", _NS, "ns", "99.9th percentile of resumed - intended", derived=True),
)

VCPU_COLUMNS = (
    Column("run_id", _NAME, "", "the run", True),
    Column("sweep_id", _NAME, "", "its sweep", True),
    Column("vcpu", pa.uint16(), "", "number of the vCPU, from 0 through all guests of the run", True),
    Column("vmm", pa.uint16(), "", "number of its VMM process, likewise"),
    Column("guest", pa.uint16(), "", "number of its guest, from 0"),
    Column("host", _NAME, "", "its host"),
    Column("tid", _COUNT, "", "thread id on the host"),
    Column("accesses", _COUNT, "accesses", "accesses done"),
    Column("faults", _COUNT, "faults", "accesses that found the page not mapped"),
    Column("pages_resolved", _COUNT, "pages", "pages resolved for this vCPU, each counted once in its VMM"),
    Column("start_ns", _NS, "ns", "when it left the barrier"),
    Column("end_ns", _NS, "ns", "when its last access was done"),
    Column("cpus", pa.list_(pa.int32()), "", "CPUs it really ran on"),
    Column("wrong_words", _COUNT, "words", "wrong words it read"),
    Column("first_wrong", _TEXT, "", "the first of them: page, what was there, what should have been"),
    Column("stuck", _TEXT, "", "what it was waiting for when the watchdog ended the run"),
    Column("failure", _TEXT, "", "why it gave up"),
    Column("recorded", _COUNT, "faults", "faults that left a record"),
    *_LOCK_READS,
    Column("longest_fault_ns", _NS, "ns", "longest resumed - raised, of all its faults; 0: it had none"),
    Column("mark_ns", _TIMES, "ns", "when it had got as far as mark_accesses and mark_pages say, a few dozen points in turn"),
    Column("mark_accesses", _COUNTS, "accesses", "accesses of its first pass done at each of mark_ns"),
    Column("mark_pages", _COUNTS, "pages", "its pages_resolved at each of mark_ns"),
    Column("pass_end_ns", _TIMES, "ns", "when each of its passes ended"),
    *COUNTERS,
)

FAULT_COLUMNS = (
    Column("run_id", _NAME, "", "the run", True),
    Column("sweep_id", _NAME, "", "its sweep", True),
    Column("vcpu", pa.uint16(), "", "the vCPU that touched the page", True),
    Column("page", pa.uint32(), "", "page number in its guest's region", True),
    Column("kind", _NAME, "", "the state the page was prepared in", True),
    Column("outcome", _NAME, "", "how the fault ended", True),
    Column("exit", _NAME, "", "how its first exit arrived; none: the vCPU did not come back to user space"),
    Column("intended_ns", _NS, "ns", "open loop: when the access should have happened"),
    Column("raised_ns", _NS, "ns", "the vCPU touched the page"),
    Column("delivered_ns", _NS, "ns", "a reader had the event, or the exit had arrived"),
    Column("fetched_ns", _NS, "ns", "the contents were complete"),
    Column("installed_ns", _NS, "ns", "the resolving call had returned"),
    Column("resumed_ns", _NS, "ns", "the access was done"),
    Column("cpu", pa.uint16(), "", "CPU the vCPU was on", True),
    Column("guest", pa.uint16(), "", "number of the guest, from 0"),
    Column("host", _NAME, "", "its host: times of different hosts are not to be compared"),
)

THREAD_COLUMNS = (
    Column("run_id", _NAME, "", "the run", True),
    Column("sweep_id", _NAME, "", "its sweep", True),
    Column("role", _NAME, "", f"{', '.join(ROLES)} (the driver's row is its whole process)", True),
    Column("number", pa.int32(), "", "number among those of its role, from 0", True),
    Column("vmm", pa.uint16(), "", "number of its VMM process; null where it belongs to none"),
    Column("guest", pa.uint16(), "", "number of its guest; null for the driver"),
    Column("host", _NAME, "", "its host; null for the driver"),
    Column("tid", _COUNT, "", "thread id on the host"),
    Column("user_ns", _NS, "ns", "CPU time in user mode; the kernel's ticks split the sum, which is exact"),
    Column("system_ns", _NS, "ns", "CPU time in the kernel"),
    Column("voluntary_switches", _COUNT, "switches", "it went to sleep"),
    Column("involuntary_switches", _COUNT, "switches", "it was made to wait for its CPU"),
    Column("minor_faults", _COUNT, "faults", "page faults the kernel counted without I/O, on whatever memory"),
    Column("major_faults", _COUNT, "faults", "page faults with I/O"),
    Column("cpus", pa.list_(pa.int32()), "", "CPUs it was seen on"),
    Column("asked_per_s", _REAL, "1/s", "of a disturbance: units it was to do; null: as fast as it goes"),
    Column("achieved_per_s", _REAL, "1/s", "of a disturbance: units it did"),
    *COUNTERS,
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "runs": RUN_COLUMNS,
    "vcpus": VCPU_COLUMNS,
    "faults": FAULT_COLUMNS,
    "threads": THREAD_COLUMNS,
}


def arrow_schema(table: str) -> pa.Schema:
    """The Arrow schema of `table`, each field with its `unit` and `doc` as metadata."""
    return pa.schema(
        [pa.field(c.name, c.type, nullable=not c.required, metadata={"unit": c.unit, "doc": c.doc}) for c in COLUMNS[table]]
    )
