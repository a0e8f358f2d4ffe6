"""Every key of the configuration, once: default, meaning, unit, bounds and choices.

The structured config (`hydra_schema`), the checks (`check`), `loadgen --help` (`help`), docs/configuration.md and the specs'
values come from these lines. Options of strategies and engines come from the native registries in the same form. A new key is a
line here and the place that uses it.
"""

from __future__ import annotations

from typing import Any

from loadgen.config.bounds import (
    DAY_S,
    MOST_MIB_PER_S,
    MOST_RATE,
    MOST_REPEATS,
    MOST_ROUNDS,
    MOST_US,
    MOST_VCPUS,
    NANOSECONDS_FIT,
    ONE_A_NS,
    PAGES_FIT,
)
from loadgen.config.key import CHOSEN, Key, Values, When, chosen, positive
from loadgen.config.page_server_keys import EXTERNAL, PAGE_SERVER
from loadgen.plan.placement import OF_NODES, POLICIES
from results import questions
from workers.registry import strategy_entry
from workers.spec import FAULT_KINDS, MEMORY_TYPES

GROUPS = {
    "engine": "what a vCPU is; the choices come from the native core",
    "strategy": "how a fault is resolved; the choices come from the native core",
    "memory": "the guest region",
    "swap": "swap that is set up for the runs",
    "fault_mix": "shares of the pages by the state they are prepared in",
    "access": "which pages the vCPUs touch, and when",
    "disturb": "what goes on beside the vCPUs; combine with 'disturb=[balloon,devices]'",
    "placement": "CPUs of vCPUs and readers",
    "page_server": "who resolves: readers of the userfaultfds, or an external handler",
    "source": "where page contents come from",
    "prefetch": "pages installed before they are touched",
    "cluster": "hosts the runs are made on",
    "experiment": "a question with the sweep that answers it",
}
"""Groups of choices in the order they are shown, each with what it decides."""

SET_BY_THE_DRIVER = {"repeat": 0, "sweep_id": "", "command": "", "job_overrides": ""}
"""Keys that carry a job's identity from the sweeper to the job, with their defaults. They are not for users."""


def _strategy(values: Values) -> dict[str, Any]:
    return strategy_entry(values["strategy"]["name"])


_touching = When("any access but access=none", lambda values: values["access"]["order"] != "none")
_replayed = chosen("access.order", "trace")
_zram_or_file = chosen("swap.name", "zram", "file")
_remote = chosen("source.name", "remote")
_file = chosen("source.name", "file")
_pushed = When("source=remote source.push=true", lambda values: values["source"]["name"] == "remote" and values["source"]["push"])
_prefetching = chosen("prefetch.name", "order", "working_set")
_explicit = chosen("placement.policy", "explicit")
_of_nodes = chosen("placement.policy", *OF_NODES)
_existing = chosen("cluster.name", "existing")
_balloon = positive("disturb.balloon.rate_per_s")
_writers = positive("disturb.mmap_writers.threads")
_devices = positive("disturb.devices.threads")
_4k = chosen("memory.type", "shmem", "anon")
_userfaultfd = When("a strategy that uses userfaultfd", lambda values: bool(_strategy(values)["userfaultfd"]))

RUN = (
    Key("guests", 1, "guests of a run, each with a page server and vCPUs of its own", "guests", 1, MOST_VCPUS, "run-wide vCPUs"),
    Key("vcpus", 1, "vCPUs of each guest", "vCPUs", 1, MOST_VCPUS, "vCPU numbers have 16 bits"),
    Key("vcpus_per_vmm", 1, "vCPUs that share a VMM process and its page tables", "vCPUs", 1, MOST_VCPUS, "as vcpus"),
    Key(
        "uffds_per_vmm",
        1,
        "userfaultfds that the mapping of a VMM process is divided over",
        "fds",
        1,
        4096,
        "descriptors",
        when=_userfaultfd,
    ),
    Key("cores", 0, "CPUs that vCPUs and readers may use; 0: all this process may use", "CPUs", 0, 8192, "Linux has no more"),
    Key("repeats", 1, "runs of each configuration", "runs", 1, MOST_REPEATS, "run ids number repeats with three digits"),
    Key("measure_s", 0.5, "measured time of a run: rounds are added until they sum to it; 0: one round", "s", 0, DAY_S, "a day"),
    Key("rounds_limit", 100, "most rounds of a run", "rounds", 1, MOST_ROUNDS, "round numbers have 16 bits"),
    Key("seed", 1, "seed of contents, access order and order of runs", "", 0, 1 << 62, "seeds of repeats and guests fit 64 bits"),
    Key(
        "verify", "word", "contents checked: none, a word an access, or every word of each page", choices=("none", "word", "page")
    ),
    Key("on_memory_error", "inject", "a poisoned page: memory error in the guest, or crash", choices=("inject", "crash")),
    Key("watchdog_s", 10.0, "time without progress after which a run is ended; 0: never", "s", 0, DAY_S, "a day"),
    Key("faults_limit", 4_000_000, "fault records kept of a run; above it every nth", "records", 0, 1 << 31, "memory: 64 B each"),
    Key("count_mmap_lock", False, "count mmap_lock acquisitions for reading (tracefs; slows each one down)"),
    Key("recover", False, "replace a page server that dies (failover)"),
    Key("dataset", "outputs/dataset", "where results are stored: a folder, or a URI such as s3://bucket/path"),
    Key("question", "", "question whose table follows the sweep", choices=("", *questions.names())),
    Key("dry_run", False, "print the plan and start nothing"),
    Key("resume", False, "make only the runs that the data set does not have"),
    Key("quiet", False, "no progress lines; the option --quiet does the same"),
    Key("json", False, "events as JSON lines on stdout; the option --json does the same"),
)

MEMORY = (
    Key("memory.type", CHOSEN, "kind of memory", choices=MEMORY_TYPES),
    Key("memory.region_mib", 64, "size of the guest region", "MiB", 1, 1 << 24, PAGES_FIT),
    Key("memory.page_bytes", 4096, "page size: 4096, or 2097152 under memory=hugetlb", "B", 4096, 1 << 21, "the largest page"),
    Key(
        "memory.regions",
        1,
        "mappings of the region in a VMM process, with gaps between",
        "mappings",
        1,
        16,
        "a message of 2 KiB",
        when=EXTERNAL,
    ),
    Key("memory.numa", "default", "NUMA nodes that the region's pages come from: default, local, interleave or node:N"),
    Key("memory.transparent_huge_pages", False, "let the kernel use transparent huge pages", when=_4k),
    Key("swap.name", CHOSEN, "kind of swap", choices=("none", "zram", "file")),
    Key("swap.mib", 0, "size; 0: what the swapped pages need", "MiB", 0, 1 << 24, "the largest region", when=_zram_or_file),
    Key("swap.folder", "/var/tmp", "folder of the swap file", when=chosen("swap.name", "file")),
)

FAULT_MIX = (
    Key("fault_mix.name", CHOSEN, "label of the mix in results"),
    Key("fault_mix.hit", 0.0, "pages mapped before the clock starts", "share", 0, 1),
    Key("fault_mix.minor", 0.0, "pages whose contents are in the page cache and that are not mapped", "share", 0, 1),
    Key("fault_mix.absent", 0.0, "pages whose contents have to be fetched", "share", 0, 1),
    Key("fault_mix.swapped", 0.0, "pages resolved once and swapped out again", "share", 0, 1),
    Key("fault_mix.poisoned", 0.0, "pages whose contents are lost", "share", 0, 1),
    Key(
        "fault_mix.poisoned_at",
        "source",
        "poisoned pages: lost at the source, or poisoned by the host after they were resolved",
        choices=("source", "resolved"),
        when=positive("fault_mix.poisoned"),
    ),
    Key("fault_mix.rest", "none", "the state that takes what the others leave to 1", choices=("none", *FAULT_KINDS)),
)

ACCESS = (
    Key(
        "access.order",
        CHOSEN,
        "order of the pages",
        choices=("sequential", "permutation", "uniform", "zipf", "strided", "trace", "none"),
    ),
    Key("access.overlap", False, "every vCPU touches the whole region, not its own part", when=_touching),
    Key("access.read_share", 1.0, "accesses that read; the others write", "share", 0, 1, when=_touching),
    Key("access.passes", 1, "times a vCPU goes over its accesses", "passes", 1, 1_000_000, "a run must end", when=_touching),
    Key(
        "access.accesses",
        0,
        "accesses of a vCPU in a pass; 0: one for each page of its part, or the length of the trace",
        "accesses",
        0,
        1 << 40,
        "a run must end",
        when=_touching,
    ),
    Key(
        "access.stride_pages",
        1,
        "distance of two accesses",
        "pages",
        1,
        1 << 32,
        PAGES_FIT,
        when=chosen("access.order", "strided"),
    ),
    Key(
        "access.zipf_exponent",
        1.1,
        "exponent of the Zipf distribution",
        "",
        0.01,
        100,
        "one page would be all",
        when=chosen("access.order", "zipf"),
    ),
    Key("access.trace_file", "", "Parquet, CSV or list of page (time_ns, write, vcpu)", when=_replayed),
    Key("access.speed", 1.0, "a trace's gaps are divided by it; 0: back to back", "", 0, 1e6, NANOSECONDS_FIT, when=_replayed),
    Key("access.think_us", 0.0, "pause of a vCPU after each access", "us", 0, MOST_US, NANOSECONDS_FIT, when=_touching),
    Key(
        "access.rate_per_s",
        0.0,
        "open-loop rate of each vCPU; 0: closed loop",
        "accesses/s",
        0,
        MOST_RATE,
        ONE_A_NS,
        when=_touching,
    ),
    Key(
        "access.arrivals",
        "fixed",
        "when an open loop's accesses are due: every interval, or with exponential gaps",
        choices=("fixed", "poisson"),
        when=positive("access.rate_per_s"),
    ),
    Key("access.hold_s", 0.0, "least duration of the measured phase", "s", 0, DAY_S, "a day"),
)

DISTURB = (
    Key("disturb.balloon.rate_per_s", 0.0, "pages of the guest dropped; 0: none", "pages/s", 0, MOST_RATE, ONE_A_NS),
    Key("disturb.balloon.method", "dontneed", "how pages are dropped", choices=("dontneed", "remove", "punch"), when=_balloon),
    Key("disturb.balloon.track_removes", True, "the VMM gets UFFD_EVENT_REMOVE", when=_balloon),
    Key(
        "disturb.balloon.stage2",
        "dropped",
        "the emulated stage-2 entry of a dropped page",
        choices=("dropped", "stale"),
        when=_balloon,
    ),
    Key("disturb.migrator.rate_per_s", 0.0, "guest pages moved to other frames; 0: none", "pages/s", 0, MOST_RATE, ONE_A_NS),
    Key(
        "disturb.migrator.fragment_mib",
        64,
        "memory fragmented before each compaction",
        "MiB",
        1,
        1 << 20,
        "a TiB",
        when=positive("disturb.migrator.rate_per_s"),
    ),
    Key("disturb.mmap_writers.threads", 0, "threads of each VMM process that map and unmap", "threads", 0, 1024, "pids"),
    Key("disturb.mmap_writers.rate_per_s", 0.0, "calls of each; 0: unpaced", "calls/s", 0, MOST_RATE, ONE_A_NS, when=_writers),
    Key("disturb.mmap_writers.map_kib", 2048, "memory mapped by a call", "KiB", 4, 1 << 30, "a TiB", when=_writers),
    Key(
        "disturb.devices.threads",
        0,
        "threads of each VMM process that reach the guest by system calls",
        "threads",
        0,
        1024,
        "pids",
    ),
    Key("disturb.devices.rate_per_s", 0.0, "accesses of each; 0: unpaced", "accesses/s", 0, MOST_RATE, ONE_A_NS, when=_devices),
    Key(
        "disturb.devices.device_mapping",
        "same",
        "the vCPUs' mapping, or a second one whose userfaultfd sleeps",
        choices=("same", "second"),
        when=_devices,
    ),
)

PLACEMENT = (
    Key("placement.policy", CHOSEN, "how threads are pinned", choices=POLICIES),
    Key("placement.node", 0, "NUMA node of the vCPUs", "node number", 0, 1023, "Linux has no more", when=_of_nodes),
    Key("placement.vcpu_cpus", (), "CPU of each vCPU, used in turn", "CPU numbers", 0, 8191, "Linux has no more", when=_explicit),
    Key(
        "placement.reader_cpus",
        (),
        "CPU of each reader; empty: those of the vCPUs",
        "CPU numbers",
        0,
        8191,
        "Linux has no more",
        when=_explicit,
    ),
)

SOURCE = (
    Key("source.name", CHOSEN, "kind of source", choices=("local", "file", "remote")),
    Key("source.file", "", "memory snapshot; empty: one is written for the session", when=_file),
    Key(
        "source.contents",
        "seeded",
        "what pages hold and are verified against: contents of seed, or what source.file holds",
        choices=("seeded", "file"),
        when=_file,
    ),
    Key("source.cache", "warm", "the snapshot is in the page cache, or not", choices=("warm", "cold"), when=_file),
    Key("source.address", "", "HOST:PORT of a loadgen-source; empty: one is started", when=_remote),
    Key("source.rtt_us", 0.0, "emulated round-trip time", "us", 0, MOST_US, NANOSECONDS_FIT, when=_remote),
    Key(
        "source.connections", 1, "connections that ask for pages", "connections", 1, 64, "descriptors of the source", when=_remote
    ),
    Key("source.push", False, "the source also sends all pages unasked", when=_remote),
    Key("source.batch_pages", 16, "most pages of a pushed frame", "pages", 1, 512, "a frame's buffer", when=_pushed),
    Key("source.push_mib_per_s", 0.0, "rate of the push; 0: unpaced", "MiB/s", 0, MOST_MIB_PER_S, "a TiB/s", when=_pushed),
    Key("source.timeout_s", 2.0, "time after which a page is asked for again", "s", 0.001, DAY_S, "a day", when=_remote),
    Key(
        "source.retries",
        3,
        "times a page is asked for again before the run fails",
        "times",
        0,
        1_000_000,
        "a run must end",
        when=_remote,
    ),
)

PREFETCH = (
    Key("prefetch.name", CHOSEN, "order of the prefetcher", choices=("none", "order", "working_set")),
    Key(
        "prefetch.working_set_file",
        "",
        "file of page numbers, one a line; # starts a comment",
        when=chosen("prefetch.name", "working_set"),
    ),
    Key("prefetch.batch_pages", 16, "most neighbours brought at a time", "pages", 1, 512, "a batch's buffer", when=_prefetching),
    Key("prefetch.mib_per_s", 0.0, "rate; 0: unpaced", "MiB/s", 0, MOST_MIB_PER_S, "a TiB/s", when=_prefetching),
)

CLUSTER = (
    Key("cluster.name", CHOSEN, "which Ray", choices=("local", "existing")),
    Key("cluster.address", "", "HOST:PORT of the Ray, or auto: the one this host belongs to", when=_existing),
    Key("cluster.leave_out", (), "nodes on which nothing runs, by name or address", when=_existing),
    Key("cluster.exclusive", True, "one run at a time on a host, over all drivers"),
    Key("cluster.deadman_s", 30.0, "time without the driver after which actors end; 0: never", "s", 0, DAY_S, "a day"),
)

KEYS: tuple[Key, ...] = (
    *(*RUN, *MEMORY, *FAULT_MIX, *ACCESS, *DISTURB, *PLACEMENT, *PAGE_SERVER, *SOURCE, *PREFETCH, *CLUSTER),
)  # fmt: skip
