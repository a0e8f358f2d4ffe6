"""The specification of one run for the actors: frozen, picklable, free of Hydra and of any file format.

The driver's plan builds a `RunSpec`; the actors read it and change nothing. Every size is in bytes, every time in the
unit its name ends with, every CPU is a number of this host as in `/proc/cpuinfo`. No field has a default: defaults are those of
the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from workers.disturb_spec import DisturbSpec

FAULT_KINDS = ("hit", "minor", "absent", "swapped", "poisoned")
"""Page states of a fault mix, in the order of their codes in records and in the guest's table of kinds."""

MEMORY_TYPES = ("shmem", "hugetlb", "anon")
PAGE_SERVERS = ("own", "external")


@dataclass(frozen=True)
class MemorySpec:
    """The guest region: one memfd (`shmem`, `hugetlb`), one private anonymous mapping (`anon`), or a private mapping of the
    snapshot in each VMM process (`file`: used by a strategy that maps the snapshot, whatever `memory` is).

    `regions`: stretches of a VMM process's mapping, with gaps between. `numa`: where its pages come from: `default`, `local`,
    `interleave` or `node:N`."""

    DEFAULT_TYPE: ClassVar[str] = "shmem"

    type: str
    region_bytes: int
    page_bytes: int
    transparent_huge_pages: bool
    regions: int
    numa: str

    @property
    def pages(self) -> int:
        """Pages of `page_bytes` in the region."""
        return self.region_bytes // self.page_bytes


@dataclass(frozen=True)
class FaultMixSpec:
    """Shares of the region's pages by the state they are prepared in; they sum to 1.

    `poisoned_at`: `source`: the page server answers that the contents are lost. `resolved`: the host poisoned the page after
    the VMM had resolved it; the VMM's page record still has it as resolved.
    """

    hit: float
    minor: float
    absent: float
    swapped: float
    poisoned: float
    poisoned_at: str


@dataclass(frozen=True)
class SwapSpec:
    """Swap that is set up for a run and removed afterwards: `none`, a `zram` device, or a `file` in `folder`."""

    kind: str
    size_bytes: int
    folder: str


NO_SWAP = SwapSpec("none", 0, "")


@dataclass(frozen=True)
class TraceSpec:
    """What a trace says beside its pages, an entry each; empty where it does not say it.

    `due_ns`: when an access is due after the common start, `write`: 1 where it writes, `vcpu`: which vCPU makes it.
    """

    due_ns: tuple[int, ...]
    write: tuple[int, ...]
    vcpu: tuple[int, ...]


NO_TRACE = TraceSpec((), (), ())


@dataclass(frozen=True)
class AccessSpec:
    """Which pages a vCPU touches, in which order, how often and how fast.

    `accesses` is per vCPU and pass; 0 means as many as its share of the region has pages (for `trace`: the trace's length).
    `rate_per_s` is per vCPU; 0 is the closed loop. `arrivals` of an open loop: `fixed` or `poisson`. `hold_ns`: the measured
    phase lasts at least this long; under the order `none`, the control run, nothing is touched meanwhile. `trace` holds the page
    numbers of a recorded trace, `recorded` what else it says, its gaps divided by `speed` (0: back to back).
    """

    order: str
    overlap: bool
    read_share: float
    passes: int
    accesses: int
    stride_pages: int
    zipf_exponent: float
    trace: tuple[int, ...]
    recorded: TraceSpec
    speed: float
    think_ns: int
    rate_per_s: float
    arrivals: str
    hold_ns: int


@dataclass(frozen=True)
class StrategySpec:
    """A strategy of the native registry by name, with every one of its options."""

    name: str
    options: Mapping[str, int]


@dataclass(frozen=True)
class InjectSpec:
    """Faults injected into the page server.

    `drop_events_share`: share of events that are not answered; `wake_every_ms`: period of a UFFDIO_WAKE over the region (0:
    never). `contents_bit` False: readers treat a minor event as proof that contents are complete; `fill_pause_us`: between the
    halves of a page filled in place. `vanish_after_events`: each reader then closes its userfaultfds, which are the last
    descriptors of them (0: never).
    """

    drop_events_share: float
    wake_every_ms: float
    contents_bit: bool
    fill_pause_us: float
    vanish_after_events: int


@dataclass(frozen=True)
class ExternalSpec:
    """A fault handler that is not ours, in the page server's place: it listens at `socket`, or `command` starts it, with the
    places of {socket} and {snapshot} filled in; `shared`: once for all guests of a host. `message`: form of the published
    message; `vmms`: VMM processes of a guest that it serves."""

    socket: str
    command: str
    shared: bool
    message: str
    vmms: int


@dataclass(frozen=True)
class PageServerSpec:
    """The page server's readers, how they wait, and the delay it adds to each fetch.

    `allow_uids`: uids of peers it accepts; empty means only its own. `external`: a handler that is not ours serves, and there is
    no reader. `wake_first`: a fault's own page is installed and woken before the pages around it.
    """

    readers_per_uffd: int
    wait: str
    events_per_read: int
    wake_first: bool
    delay_us: float
    delay_distribution: str
    allow_uids: tuple[int, ...]
    handshake_timeout_s: float
    inject: InjectSpec
    external: ExternalSpec | None


@dataclass(frozen=True)
class SourceSpec:
    """Where page contents come from. They are a function of `seed` and page number, but for those of a snapshot.

    `local`: computed by the page server. `file`: the snapshot `file`, or one that is written when empty; `contents`: `seeded`, or
    `file`, whatever that holds; `cache`: whether it is in the page cache when the run starts. `remote`: served over TCP at
    `address` (HOST:PORT; empty until the session has started its own source, which adds `rtt_us` to every answer). A request
    without an answer after `timeout_s` is sent again on a new connection, `retries` times; then the run fails.
    """

    name: str
    seed: int
    file: str
    contents: str
    cache: str
    address: str
    rtt_us: float
    connections: int
    push: bool
    batch_pages: int
    push_mib_per_s: float
    timeout_s: float
    retries: int

    @property
    def contents_of_file(self) -> bool:
        """Whether pages hold what `file` holds, whatever that is."""
        return self.name == "file" and self.contents == "file"


@dataclass(frozen=True)
class PrefetchSpec:
    """The page server's prefetcher: `order` installs every page, `working_set` those of `pages`, in their order.

    It installs at most `batch_pages` neighbours at a time, and at most `mib_per_s` MiB in a second (0: without a limit).
    """

    name: str
    pages: tuple[int, ...]
    batch_pages: int
    mib_per_s: float


@dataclass(frozen=True)
class PlacementSpec:
    """CPUs each thread may run on: one tuple a vCPU, one tuple a reader; an empty tuple: the thread is not pinned."""

    policy: str
    vcpu_cpus: tuple[tuple[int, ...], ...]
    reader_cpus: tuple[tuple[int, ...], ...]

    @property
    def exclusive(self) -> bool:
        """Whether every vCPU and every reader has a CPU of its own."""
        threads = [*self.vcpu_cpus, *self.reader_cpus]
        return all(len(cpus) == 1 for cpus in threads) and len(set(threads)) == len(threads)


@dataclass(frozen=True)
class RunSpec:
    """One measured phase of one configuration, one repeat.

    `sample_every`: every how-many-th fault of a vCPU leaves a record (1: all of them).
    `record_capacity`: fault records preallocated for each vCPU.
    `measure_s`: rounds are added until their measured time sums to it, at most `rounds_limit`. `one_round`: why the run keeps
    one round whatever is asked; empty: it does not.
    `gated`: the vCPUs wait at their barrier until the page server's `release`.
    `recover`: a page server that dies is replaced (failover).
    `count_mmap_lock`: count acquisitions of the mmap_lock for reading, where tracefs is mounted; it slows each of them down.
    `on_memory_error`: `inject` gives the guest a memory error, `crash` ends the VMM process.
    """

    run_id: str
    sweep_id: str
    repeat: int
    seed: int
    engine: str
    strategy: StrategySpec
    memory: MemorySpec
    fault_mix: FaultMixSpec
    access: AccessSpec
    page_server: PageServerSpec
    placement: PlacementSpec
    vcpus: int
    vcpus_per_vmm: int
    uffds_per_vmm: int
    cores: int
    verify: str
    watchdog_s: float
    sample_every: int
    record_capacity: int
    measure_s: float
    rounds_limit: int
    one_round: str
    source: SourceSpec
    on_memory_error: str
    recover: bool
    swap: SwapSpec
    gated: bool
    engine_options: Mapping[str, int]
    disturb: DisturbSpec
    count_mmap_lock: bool
    prefetch: PrefetchSpec

    @property
    def most_rounds(self) -> int:
        """Rounds that the run may have."""
        return 1 if self.one_round else self.rounds_limit

    @property
    def userfaultfds_per_vmm(self) -> int:
        """Userfaultfds a VMM process sends to the page server: of its shards, and of its devices' own mapping."""
        return self.uffds_per_vmm + self.disturb.second_mapping

    @property
    def vmms(self) -> int:
        """VMM processes of the guest."""
        return self.vcpus // self.vcpus_per_vmm


def native_access(spec: AccessSpec) -> dict[str, Any]:
    """The accesses as the native core takes them."""
    access = {key: value for key, value in vars(spec).items() if key not in ("recorded", "speed")}
    return access | {f"trace_{key}": list(values) for key, values in vars(spec.recorded).items()}
