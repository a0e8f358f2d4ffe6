"""The columns of `runs`: one row a measured phase of one configuration, one repeat."""

from __future__ import annotations

import pyarrow as pa

from results.schema.column import BOOL, COUNT, COUNTS, NAME, NS, REAL, TEXT, TIME, TIMES, Column
from results.schema.counters import COUNTERS, LOCK_READS
from results.schema.words import DISTURBERS

_NET = (
    ("pages_per_s_net", "", "pages/s", "pages_per_s net of emulated operations"),
    ("faults_per_s_net", "", "faults/s", "faults_per_s net of emulated operations"),
    ("latency_p50_net", "_ns", "ns", "median of resumed - raised, each fault's without the emulated operations it paid for"),
    ("cpu_ns_per_page_net", "", "ns/page", "cpu_ns_per_page net of emulated operations"),
)
_BRACKET = (("", "; null where it is a bracket"), ("_low", ": lower end of the bracket"), ("_high", ": upper end"))
NET_COLUMNS = (
    Column("cpu_ns_per_page", REAL, "ns/page", "CPU time of vCPUs, readers and request rings / pages_resolved", derived=True),
    *(
        Column(f"{name}{end}{suffix}", REAL, unit, f"{what}{which}", derived=True)
        for name, suffix, unit, what in _NET
        for end, which in _BRACKET
    ),
    Column("emulated_s", REAL, "s", "of duration_s, emulated operations: what pages_per_s_net_high leaves out", derived=True),
    Column("emulated_arrival_p50_ns", REAL, "ns", "emulated_arrival_ns in the run's own records", derived=True),
)
"""Net of what the thread engine emulates (results/derive/net.py): null where a rate, think or hold time is set, where vCPUs
outnumber CPUs (CPU time a page holds there), where exits are real, and where less than a tenth of the raw figure is left."""

RUN_COLUMNS = (
    Column("run_id", NAME, "", "one measured phase of one configuration, one repeat; unique in the data set", True),
    Column("sweep_id", TEXT, "", "all runs of one command", True, axis=True),
    Column("schema_version", pa.int32(), "", "version of this schema", True),
    Column("repeat", pa.int32(), "", "number of the repeat, from 0"),
    Column(
        "status",
        TEXT,
        "",
        "ok, failed, corrupt, crashed, stuck, interrupted, or broken (counters disagree)",
        True,
    ),
    Column("reason", TEXT, "", "why the status is not ok"),
    Column("started_at", TIME, "", "wall clock when the run began, in UTC"),
    # configuration
    Column("engine", TEXT, "", "what touches pages and exits", axis=True),
    Column("engine_options", TEXT, "", "every option of the engine, as sorted JSON, a choice by its name", axis=True),
    Column("strategy", TEXT, "", "how an access to a page that is not mapped is handled", axis=True),
    Column("strategy_options", TEXT, "", "every option of the strategy, as sorted JSON, a choice by its name", axis=True),
    Column("fault_mix", TEXT, "", "page states prepared before the clock starts", axis=True),
    Column("memory_type", TEXT, "", "shmem, hugetlb or anon", axis=True),
    Column("page_bytes", COUNT, "bytes", "size of a page of the region", axis=True),
    Column("pages", COUNT, "pages", "pages of page_bytes in the region", axis=True),
    Column("transparent_huge_pages", BOOL, "", "whether the region may have transparent huge pages", axis=True),
    Column("memory_regions", COUNT, "mappings", "mappings of the region in a VMM process, with gaps between", axis=True),
    Column("cluster", TEXT, "", "Ray cluster: local (started by the driver) or existing", axis=True),
    Column("exclusive", BOOL, "", "whether other runs were kept off its hosts", axis=True),
    Column("guests", COUNT, "guests", "guests of the run, all alike; counts are sums over them", axis=True),
    Column("vcpus", COUNT, "vCPUs", "vCPUs of each guest", axis=True),
    Column("vcpus_per_vmm", COUNT, "vCPUs", "vCPUs that share one VMM process", axis=True),
    Column("uffds_per_vmm", COUNT, "userfaultfds", "userfaultfds a VMM's mapping is sharded over", axis=True),
    Column("cores", COUNT, "CPUs", "CPUs the vCPUs and readers may use", axis=True),
    Column("page_server", TEXT, "", "who resolved: own (our readers) or external (a fault handler that is not ours)", axis=True),
    Column("handler", TEXT, "", "of an external handler: its command, or the socket it was found at", axis=True),
    Column("handler_shared", BOOL, "", "whether all guests of a host had one external handler", axis=True),
    Column("handler_message", TEXT, "", "form of its message: current (page_size), old (page_size_kib) or both", axis=True),
    Column("readers", COUNT, "threads", "reader threads of the page server", axis=True),
    Column("readers_per_uffd", COUNT, "threads", "reader threads on each userfaultfd", axis=True),
    Column("wait", TEXT, "", "how readers wait: poll, epoll or spin", axis=True),
    Column("events_per_read", COUNT, "events", "most events one read may return", axis=True),
    Column("delay_us", REAL, "us", "service delay asked of the page server", axis=True),
    Column("delay_distribution", TEXT, "", "fixed or exponential", axis=True),
    Column("drop_events_share", REAL, "1", "share of events the page server dropped on purpose", axis=True),
    Column(
        "wake_every_ms",
        REAL,
        "ms",
        "time between wake-ups of all sleepers, which repeat lost events",
        axis=True,
        zero="never",
    ),
    Column("contents_bit", BOOL, "", "whether readers go by the contents bit, not by a minor event", axis=True),
    Column("fill_pause_us", REAL, "us", "pause between the two halves of a page filled in place", axis=True),
    Column(
        "vanish_after_events", COUNT, "events", "events after which a reader closed its userfaultfds", axis=True, zero="never"
    ),
    Column("source", TEXT, "", "where page contents come from: local, file or remote", axis=True),
    Column("source_cache", TEXT, "", "whether the snapshot file was in the page cache at the start: warm or cold", axis=True),
    Column("source_address", TEXT, "", "where the remote source listened"),
    Column("source_rtt_us", REAL, "us", "round-trip time that the remote source emulates", axis=True),
    Column("source_connections", COUNT, "connections", "connections to the remote source", axis=True),
    Column("source_push", BOOL, "", "whether the remote source pushed pages unasked", axis=True),
    Column("source_batch_pages", COUNT, "pages", "most pages in a pushed frame", axis=True),
    Column("source_push_mib_per_s", REAL, "MiB/s", "limit of the push rate", axis=True, zero="as fast as it goes"),
    Column("prefetch", TEXT, "", "pages the page server prefetches: none, order or working_set", axis=True),
    Column("prefetch_batch_pages", COUNT, "pages", "most pages the prefetcher brings in one block", axis=True),
    Column("prefetch_mib_per_s", REAL, "MiB/s", "limit of the prefetch rate", axis=True, zero="as fast as it goes"),
    Column("access_order", TEXT, "", "order in which a vCPU touches its pages", axis=True),
    Column("arrivals", TEXT, "", "when the accesses of an open loop are due: fixed or poisson; null in a closed one", axis=True),
    Column("overlap", BOOL, "", "whether all vCPUs touch the whole region", axis=True),
    Column("read_share", REAL, "1", "share of accesses that read", axis=True),
    Column("passes", COUNT, "passes", "passes of each vCPU over its accesses", axis=True),
    Column("accesses_per_pass", COUNT, "accesses", "accesses of a vCPU in a pass", axis=True, zero="one for each page"),
    Column("stride_pages", COUNT, "pages", "step of the strided order", axis=True),
    Column("zipf_exponent", REAL, "1", "exponent of the zipf order", axis=True),
    Column("think_ns", NS, "ns", "pause of a vCPU between accesses", axis=True),
    Column("rate_per_s", REAL, "accesses/s", "open-loop rate of each vCPU", axis=True, zero="closed loop"),
    Column("hold_ns", NS, "ns", "least length of the measured phase", axis=True),
    Column("measure_s", REAL, "s", "measured time asked for: rounds are added until they sum to it", axis=True),
    Column("rounds_limit", COUNT, "rounds", "most rounds of the run", axis=True),
    Column("one_round", TEXT, "", "why the run keeps one round whatever measure_s asks; null where it does not"),
    Column("poisoned_at", TEXT, "", "where poisoned pages were poisoned: source, or resolved (unknown to the VMM)", axis=True),
    Column("on_memory_error", TEXT, "", "what a memory error does: inject (into the guest) or crash", axis=True),
    Column("swap", TEXT, "", "swap set up for the run: none (the host's own), zram or file", axis=True),
    Column("swap_bytes", COUNT, "bytes", "its size"),
    Column("disturb", TEXT, "", "disturbances beside the vCPUs, joined by +, or none", axis=True),
    Column("balloon_per_s", REAL, "pages/s", "rate of pages to drop by the balloon", axis=True),
    Column("balloon_method", TEXT, "", "how the balloon drops a page: dontneed, remove or punch", axis=True),
    Column("track_removes", BOOL, "", "whether userfaultfds report removed pages (UFFD_FEATURE_EVENT_REMOVE)", axis=True),
    Column("balloon_stage2", TEXT, "", "emulated stage-2 entry of a dropped page: dropped with it, or stale", axis=True),
    Column("migrator_per_s", REAL, "pages/s", "rate of guest pages to migrate", axis=True),
    Column("mmap_writers", COUNT, "threads", "threads of each VMM process that map and unmap", axis=True),
    Column(
        "mmap_writer_per_s",
        REAL,
        "pairs/s",
        "rate of each VMM process, all threads",
        axis=True,
        zero="as fast as it goes",
    ),
    Column("devices", COUNT, "threads", "threads of each VMM process that reach the guest by system calls", axis=True),
    Column(
        "device_per_s",
        REAL,
        "accesses/s",
        "rate of each VMM process, all threads",
        axis=True,
        zero="as fast as it goes",
    ),
    Column("device_mapping", TEXT, "", "mapping the devices use: the vCPUs' (same) or one of their own (second)", axis=True),
    Column("placement", TEXT, "", "policy that pins vCPUs and readers", axis=True),
    Column("vcpu_cpus", TEXT, "", "CPUs each vCPU may run on, as the plan wrote them", axis=True),
    Column("reader_cpus", TEXT, "", "CPUs each reader may run on, as the plan wrote them", axis=True),
    Column("verify", TEXT, "", "contents checked: none, word or page", axis=True),
    Column("sample_every", COUNT, "faults", "every n-th fault of a vCPU has a record", axis=True),
    Column("watchdog_s", REAL, "s", "time without progress after which a run is ended"),
    Column("recover", BOOL, "", "whether a page server that dies is replaced (failover)"),
    Column("seed", COUNT, "", "seed of contents and access order"),
    Column("plan_key", TEXT, "", "hash of the configuration and the repeat, by which a resumed sweep finds the run"),
    Column("config_json", TEXT, "", "the whole resolved configuration, as JSON"),
    Column("command", TEXT, "", "the command that repeats the sweep"),
    Column("job_overrides", TEXT, "", "overrides of this run's cell within its sweep"),
    # machine and software
    Column("host", TEXT, "", "name of the host; of several, all in alphabetical order", axis=True),
    Column("guest_hosts", TEXT, "", "the host of each guest in turn, comma joined"),
    Column("kernel", TEXT, "", "kernel release", axis=True),
    Column("cpu_model", TEXT, "", "model name of the CPU"),
    Column("host_cpus", COUNT, "CPUs", "CPUs of the host"),
    Column("cpu_quota", REAL, "CPUs", "CPUs that the control group of the driver may use; null without a quota"),
    Column("throttled_s", REAL, "s", "time for which the quota kept threads from running in the measured phase"),
    Column("memory_bytes", COUNT, "bytes", "memory of the host"),
    Column("userfaultfd_way", TEXT, "", "device, syscall or user_mode_only"),
    Column("userfaultfd_features", TEXT, "", "features the kernel offers, comma joined"),
    Column("clock_source", TEXT, "", "tsc or clock_gettime"),
    Column("package_version", TEXT, "", "version of this package"),
    Column("commit", TEXT, "", "commit of this package, where known"),
    Column("rounds", COUNT, "rounds", "rounds that every vCPU finished"),
    Column("rounds_ended", TEXT, "", "what ended the rounds: measure_s, rounds_limit, records (no room for more) or one round"),
    # what was prepared
    Column("hit_pages", COUNT, "pages", "pages proven mapped before the clock started"),
    Column("minor_pages", COUNT, "pages", "pages proven in the page cache and not mapped"),
    Column("absent_pages", COUNT, "pages", "pages proven without contents"),
    Column("swapped_pages", COUNT, "pages", "pages proven resolved and swapped out"),
    Column("poisoned_pages", COUNT, "pages", "pages proven to be poisoned, or without contents when poisoned at the source"),
    Column("unprepared", COUNT, "pages", "pages that were not in the state asked for after preparing"),
    Column("emulated_exit_ns", REAL, "ns", "calibrated CPU time of one emulated exit; 0: none is made; null: exits are real"),
    Column("emulated_slow_gup_ns", REAL, "ns", "of it, slow GUP at most, which the strategy's proposal pays for too"),
    Column("emulated_entry_ns", REAL, "ns", "calibrated CPU time of one emulated stage-2 violation that makes no exit"),
    Column("emulated_arrival_ns", REAL, "ns", "median delivered - raised of an emulated exit, calibrated"),
    *(
        Column(f"emulated_{name}_{when}_{unit}", REAL, "ns", f"{what} of the calibration {when} the run of emulated_{name}_ns")
        for name in ("exit", "slow_gup", "entry")
        for when in ("before", "after")
        for unit, what in (("ns", "median"), ("spread_ns", "interquartile range"))
    ),
    Column("waited_s", REAL, "s", "waiting for hosts on which other runs measured, before the run began"),
    Column("start_gate_s", REAL, "s", "most by which guests on different hosts started apart; null with one guest"),
    # what was measured
    Column("accesses", COUNT, "accesses", "accesses done by all vCPUs"),
    Column("faults", COUNT, "faults", "accesses that found the page not mapped"),
    Column("pages_resolved", COUNT, "pages", "distinct pages of page_bytes resolved for vCPUs; prefetched_pages come on top"),
    Column("mappings_resolved", COUNT, "pages", "pages resolved for vCPUs, each counted once in each VMM process's mapping"),
    Column("fault_records", COUNT, "rows", "rows of this run in faults"),
    Column(
        "mmap_lock_reads", COUNT, "locks", "mmap_lock taken for reading by vCPUs; null where it was not, or cannot be, counted"
    ),
    *LOCK_READS,
    *(
        Column(f"ended_{state}", COUNT, "pages", f"pages that ended {state.replace('_', ' ')}, summed over mappings")
        for state in ("unresolved", "in_flight", "resolved", "poisoned", "discarded")
    ),
    *(Column(f"{role}_achieved_per_s", REAL, "1/s", f"rate that {role} threads achieved") for role in DISTURBERS),
    *(
        Column(f"device_sleep_{what}_ns", NS, "ns", f"{text} of the sleep of a device access; null: none slept")
        for what, text in (("p50", "median length, to 3 %,"), ("p99", "99th percentile, to 3 %,"), ("max", "greatest length"))
    ),
    Column("not_achieved", TEXT, "", "disturbances that achieved less than 0.9 of the rate asked for; null: none"),
    Column("pages_gone", COUNT, "pages", "pages that ended as resolved and were missing: dropped without an event"),
    Column("wrong_words", COUNT, "words", "words of contents that were not what they should have been"),
    Column("recoveries", COUNT, "page servers", "page servers that died during the run and were replaced (failover)"),
    Column("idle_actors", COUNT, "actors", "Ray actors alive on the host that took no part in the run"),
    *COUNTERS,
    Column("fetched_on_demand", COUNT, "pages", "pages fetched from the remote source on demand"),
    Column("fetched_pushed", COUNT, "pages", "pages whose contents the remote source pushed"),
    Column("fetched_twice", COUNT, "pages", "pages that came twice; the second copy was dropped"),
    Column("source_requests", COUNT, "requests", "requests to the remote source, those asked again among them"),
    Column("source_retries", COUNT, "requests", "requests asked again after a time-out or a lost connection"),
    Column("source_bytes", COUNT, "bytes", "bytes received from the remote source"),
    Column("source_rtt_p50_us", REAL, "us", "median time from a request to the last page of its answer"),
    Column("prefetch_mark_ns", TIMES, "ns", "when the prefetcher had brought prefetch_mark_pages, in turn"),
    Column("prefetch_mark_pages", COUNTS, "pages", "prefetched_pages at each of prefetch_mark_ns"),
    # an external handler; of processes in sight of the VMM's
    Column("handler_version", TEXT, "", "first line the external handler printed on its standard output"),
    Column("handler_cpu_s", REAL, "s", "its CPU time in the measured phase, child processes included"),
    Column("handler_peak_bytes", COUNT, "bytes", "its peak resident memory, mapped pages of the snapshot included"),
    Column("handler_threads", COUNT, "threads", "its threads at the end of the measured phase"),
    Column("handler_voluntary_switches", COUNT, "switches", "their voluntary context switches"),
    Column("handler_involuntary_switches", COUNT, "switches", "their involuntary context switches"),
    Column(
        "pages_brought_ahead",
        COUNT,
        "pages",
        "touched pages for which the kernel counted no fault of a vCPU: they were there before; null where vCPUs overlap or a "
        "disturbance makes or takes pages",
    ),
    Column("pages_brought_untouched", COUNT, "pages", "pages that pagemap shows mapped at the end and no vCPU touched"),
    # where the time went
    Column("fill_s", REAL, "s", "filling the region"),
    Column("prepare_s", REAL, "s", "preparing and proving page states"),
    Column("verify_s", REAL, "s", "reading every resolved page in full"),
    Column("store_s", REAL, "s", "storing the fault records"),
    Column("wall_s", REAL, "s", "the whole run"),
    # noise: rules in loadgen/host/interference.py
    Column("watched_s", REAL, "s", "time between the driver's two samples of CPU use, around the measured phase"),
    Column("machine_cpus", COUNT, "CPUs", "online CPUs of the machine; the shares that flag a run are parts of them"),
    Column("rig_cpu_share", REAL, "CPUs", "benchmark overhead: CPUs used by driver, Ray and actors, measured threads left out"),
    Column("idle_actors_cpu_share", REAL, "CPUs", "the same while nothing ran: the cost of idle Ray actors"),
    Column("driver_cpu_share", REAL, "CPUs", "CPUs used by the driver's own process"),
    Column("driver_lag_s", REAL, "s", "most by which a status poll was late; null without one"),
    Column("other_cpu_share", REAL, "CPUs", "CPUs used by other processes"),
    Column("steal_share", REAL, "CPUs", "CPUs taken by the hypervisor (steal)"),
    Column("load_average", REAL, "tasks", "the kernel's load average of the minute before"),
    Column("involuntary_switches", COUNT, "switches", "of vCPU and reader threads: they were preempted"),
    Column("trusted", BOOL, "", "false: flagged as noisy; null: not judged"),
    Column("distrust", TEXT, "", "why it is flagged as noisy"),
    # derived, formulas in derive.py
    *(
        Column(f"touched_{share}_ns", NS, "ns", f"external handler: until {share} % of the touched pages were", derived=True)
        for share in (50, 90, 100)
    ),
    Column("longest_stall_ns", NS, "ns", "external handler: the longest access of a vCPU", derived=True),
    Column("achieved_delay_us", REAL, "us", "mean service delay achieved", derived=True),
    Column("overhead_s", REAL, "s", "everything but fill, measured phase and full verification", derived=True),
    Column("duration_s", REAL, "s", "measured phase: last vCPU's end - common start; the longest host's", derived=True),
    Column("start_spread_ns", NS, "ns", "most by which vCPUs of one host started apart", derived=True),
    Column("pages_per_s", REAL, "pages/s", "pages_resolved / duration_s", derived=True),
    *NET_COLUMNS,
    Column("prefetched_pages_per_s", REAL, "pages/s", "prefetched_pages / duration_s: none is in pages_per_s", derived=True),
    Column("pages_4kib_per_s", REAL, "4-KiB pages/s", "pages_per_s in pages of 4 KiB", derived=True),
    Column("faults_per_s", REAL, "faults/s", "faults / duration_s", derived=True),
    Column("latency_p50_ns", NS, "ns", "median of resumed - raised", derived=True),
    Column("latency_p99_ns", NS, "ns", "99th percentile of resumed - raised", derived=True),
    Column("latency_p999_ns", NS, "ns", "99.9th percentile of resumed - raised", derived=True),
    Column("latency_open_p50_ns", NS, "ns", "median of resumed - intended; null in the closed loop", derived=True),
    Column("latency_open_p99_ns", NS, "ns", "99th percentile of resumed - intended", derived=True),
    Column("latency_open_p999_ns", NS, "ns", "99.9th percentile of resumed - intended", derived=True),
)
