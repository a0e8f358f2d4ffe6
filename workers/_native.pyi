"""The native core as Python sees it. Each class has one role in a run; every long call releases the GIL.
An object's memory, descriptors and threads go with the object."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FAULT_DTYPE: np.dtype[np.void]
"""One fault record, 64 bytes: `intended_ns`, `raised_ns`, `delivered_ns`, `fetched_ns`, `installed_ns`, `resumed_ns` (u8,
CLOCK_MONOTONIC ns, 0 = the stage did not happen), `page` (u4), `cpu` (u2), `kind` (u1), `outcome` (u1), `exit` (u1),
`emulated_exits` (u1) and `emulated_entries` (u1): emulated operations the fault paid for, 255 = that many or more;
`write` (bool)."""

KINDS: tuple[str, ...]
OUTCOMES: tuple[str, ...]
EXITS: tuple[str, ...]
"""Names of the codes in `kind`, `outcome` and `exit` (how the first exit of the fault arrived): index = code."""

def strategies() -> list[dict[str, Any]]:
    """The registry: `name`, `summary`, `exit` ("none" | "signal" | "probe"), `userfaultfd` (bool), `restore` (what brings the
    pages: "on_demand" | "eager" | "file_map"), `features` (names), `memory_types` (names), `options`: list of {`name`, `default`,
    `minimum`, `maximum`, `help`, `choices`, `role`}; options are integers, and where `choices` is not empty, indices into it.
    `role`: what the option is for ("fault_around" | "populate" | "page_record" | "")."""

def engines() -> list[dict[str, Any]]:
    """The engines: `name`, `summary`, `emulates_exits` (bool: exits cost what emulating them costs), `options` (as above)."""

def probe_kvm() -> dict[str, Any]:
    """What /dev/kvm gives: `usable` (bool), `error` (str), `most_vcpus` and `best_vcpus` of a VM, `capabilities` (names),
    `exit_on_missing` (str: why a page that fast GUP does not find makes no exit; empty: it does)."""

def refuse_base_pages(page_bytes: int) -> str:
    """Why a kernel with base pages of that size is not supported; empty where it is."""

def try_own_accesses() -> list[dict[str, Any]]:
    """What becomes of the accesses that KVM makes by itself to a page that is not there: `access` (str), `refuses` (bool: the
    mapping does, with UFFD_FEATURE_SIGBUS; else it sleeps and is served), `events` (resolved meanwhile), `seen` (str). Raises
    OSError."""

def exit_kind(strategy: str, options: Mapping[str, int]) -> str:
    """How its vCPUs come back under these options: "none", "signal", "probe" or "populate"."""

def probe_userfaultfd() -> dict[str, Any]:
    """What this process may do: `way` ("device" | "syscall" | "user_mode_only" | ""), `features` (names), `kernel_faults` (bool),
    `errors`: {way: "errno text"} for each way that failed."""

def clock() -> dict[str, Any]:
    """`source` ("tsc" | "clock_gettime"), `ticks_per_s` (float)."""

def calibrate(kind: str, memory_type: str, pages: int) -> dict[str, float]:
    """What emulated operations of an exit kind ("none", "signal", "probe", "populate") cost here and now, in a walk over so
    many pages by one vCPU, in ns of CPU time: `exit_ns`; `slow_gup_ns`, the part of it that slow GUP takes at most; `entry_ns`, a
    stage-2 violation that makes no exit; each the median of batches, with their interquartile range in `exit_spread_ns`,
    `slow_gup_spread_ns`, `entry_spread_ns`; and `arrival_ns`, the median time from raising an access to the exit's arrival. 0: no
    such operation is made. Takes some ms (hugetlb: one huge page must be free). Raises KernelError."""

def emulated_operations() -> list[dict[str, str]]:
    """The ledger: `name`, `counter` (the column that counts it), `stands_for`, `real_cost` (what is known of the real one)."""

class KernelError(OSError):
    """A real failure of the kernel: `errno`, and a message that names the call, address and length."""

class Guest:
    """The guest's shared memory: the region's memfd (none for anon), and a second memfd with page kinds, contents bits,
    start barrier, vCPU states and request ring. Made by the page server's process, attached by the VMM processes."""

    region_fd: int
    shared_fd: int
    def __init__(self, config: Mapping[str, Any]) -> None: ...
    @staticmethod
    def attach(region_fd: int, shared_fd: int) -> Guest: ...
    def fill(self, kinds: npt.NDArray[np.uint8]) -> dict[str, Any]:
        """Set each page's kind and write the contents of the `hit` and `minor` pages through the alias: `filled`, `unprepared`
        (pages mincore does not confirm), `seconds`."""
    def open_contents(self, path: str) -> None:
        """Of a guest made with `contents_of_file`: open the snapshot, so that this process can read whole pages of it. Raises
        OSError and ValueError."""
    def set_touched_words(self, words: bytes) -> None:
        """Of such a guest, once and before anything starts: what `touched_words` returned."""
    def wait_armed(self, timeout_s: float) -> bool:
        """Until all vCPUs are at the barrier of a guest made with `gated`; False: not within the time, or the run was stopped."""
    def release(self, at_ns: int, rounds: int) -> None:
        """Open the barrier of the last of so many rounds at this CLOCK_MONOTONIC time, at once when it has passed; nothing
        where it is open."""
    def wait_round(self, finished: int, timeout_s: float) -> float:
        """Until every vCPU has finished this many rounds: seconds measured so far; 0: not within the time, or the run was
        stopped."""
    def rounds_full(self) -> bool:
        """Whether a vCPU has no room for the records of another round."""
    def decide_round(self, finished: int, another: bool) -> None:
        """Of a guest made with `gated`: whether there is a round after the first `finished`."""
    def rounds_ended(self) -> str:
        """What ended the rounds: `measure_s`, `rounds_limit`, `records`, or `measure_s of all guests`; empty: they go on."""
    def stop(self, reason: str) -> None:
        """End the measured phase from outside: every native wait of every process of the guest returns."""
    def stop_reason(self) -> str: ...

class PageServer:
    """Reader threads over the userfaultfds handed to it, and one thread that answers the request ring."""

    def __init__(self, guest: Guest, config: Mapping[str, Any]) -> None: ...
    def add_userfaultfd(self, fd: int, regions: Sequence[Mapping[str, int]], *, vmm: int, record_fd: int, faults_fd: int) -> None:
        """Take over `fd` (duplicated). record_fd and faults_fd are -1 for a VMM that is not ours."""
    def serve(self) -> None:
        """Serve until `stop`; blocks, GIL released."""
    def stop(self) -> None: ...
    def look(self) -> dict[str, Any]:
        """What the guest is doing, for a look twice a second at most. `seconds` since the common start; over all vCPUs:
        `accesses`, `faults`, `pages_resolved`, `running` and `finished` (vCPUs), `faults_by_kind` (kind: about how many) and
        `latency_p99_ns` (to 3 %, None before the first record), both of faults that left a record the page server can see.
        `standing`: vCPUs that have not moved since the last look: {`vcpu`, `page`, `page_state`, `stage`, `seconds`}."""
    def counters(self) -> dict[str, int]: ...
    def prefetch_marks(self) -> dict[str, list[int]]:
        """After `stop`: how many pages the background stream had brought by when, `prefetch_mark_ns` (CLOCK_MONOTONIC) and
        `prefetch_mark_pages`; empty without one."""
    def source_counts(self) -> dict[str, Any]:
        """After `stop`, of a remote source (else empty): `on_demand`, `pushed`, `twice` (pages), `requests`, `retries`, `bytes`,
        `rtt_p50_us`."""
    def threads(self) -> list[dict[str, Any]]:
        """One a thread that ran: `role` ("reader" | "ring" | "prefetch"), `number`, `tid`, `cpus` (list), `usage` (as a vCPU's,
        of its whole life), counters by name."""
    def brought(self) -> bytes:
        """After `stop`: by page, 1 for each that the prefetcher has brought; empty without one."""
    def page_states(self) -> dict[str, int]:
        """After `stop`: pages of the first mapping by their state."""
    def logged_faults(self) -> tuple[bytes, bytes]:
        """After `stop`, of a foreign VMM: its faults as FAULT_DTYPE, without `raised_ns` and `resumed_ns`, in the order in which
        they were read, and the thread of each (u4, 0: its userfaultfd names none)."""

class MappedSnapshot:
    """A snapshot that foreign VMMs are served from, mapped. Raises OSError and ValueError."""

    bytes: int
    hole_pages: int
    """Pages of 4 KiB in holes of the file."""
    def __init__(self, path: str) -> None: ...

def touched_pages(access: Mapping[str, Any], pages: int, vcpus: int, seed: int) -> bytes:
    """By page: 1 for each that some vCPU touches in the first round of these accesses."""

def write_snapshot(path: str, region_bytes: int, page_bytes: int, seed: int) -> None:
    """Write the contents of `seed` to a new file, renamed into place when it is whole."""

def check_snapshot(path: str, region_bytes: int, page_bytes: int, seed: int) -> None:
    """Read all of it. Raises ValueError when it has another size, or other contents than those of `seed`."""

def touched_words(path: str, region_bytes: int, page_bytes: int, seed: int) -> bytes:
    """Of every page the word (u8) that a vCPU touches under `seed`, as the file has it; all of the file is read. Raises
    OSError, and ValueError when it has another size."""

class SourceServer:
    """A guest's memory, served over TCP. `config`: `host`, `port` (0: the kernel chooses), `region_bytes`, `page_bytes`, `seed`,
    `rtt_us`."""

    port: int
    def __init__(self, config: Mapping[str, Any]) -> None: ...
    def served(self) -> dict[str, Any]:
        """`connections`, `requests`, `pages`, `pages_pushed`, `refused`, `last_refusal`."""
    def stop(self) -> None: ...

class Vmm:
    """One VMM process's side: its mapping, its userfaultfds, its page record, its vCPU threads."""

    def __init__(self, guest: Guest, config: Mapping[str, Any]) -> None: ...
    def userfaultfds(self) -> list[tuple[int, list[dict[str, int]]]]:
        """Each descriptor with its regions: `base_host_virt_addr`, `size`, `offset`, `page_size`, in bytes."""
    unprepared: int
    """Pages that could not be brought into their state between rounds."""
    brought_untouched: int
    """Under an external handler: pages that are mapped and that no vCPU has touched; after `finish`."""
    record_fd: int
    faults_fd: int
    def prepare(self) -> dict[str, Any]:
        """Bring every page into the state its kind asks for and prove it: pages by kind, `unprepared` (counts), `seconds`."""
    def reclaim(self) -> int:
        """After the page server was killed: settle its claims of pages by pagemap; how many there were."""
    def let_go(self) -> None:
        """Close this process's userfaultfds: what the page server holds are then the last ones."""
    def run(self) -> None:
        """The measured phase: start the vCPU threads, wait at the guest's barrier, return when all have ended."""
    def finish(self) -> None:
        """After the page server has stopped: convert the records' time stamps to CLOCK_MONOTONIC, in place."""
    def verify(self) -> dict[str, Any]:
        """Read every resolved page in full, and try every poisoned one: `pages`, `poisoned` (those that refused, as they must),
        `gone` (recorded as resolved, dropped, and not touched since), `wrong_words`, `first_wrong` (str, empty if none),
        `seconds`."""
    def page_nodes(self) -> list[int]: ...
    def page_states(self) -> dict[str, int]:
        """Pages by their state in the page record: "unresolved", "in flight", "resolved", "poisoned", "discarded"."""
    def counters(self) -> dict[str, int]: ...
    def vcpus(self) -> list[dict[str, Any]]:
        """One a vCPU: `vcpu`, `tid`, `accesses`, `faults`, `pages_resolved`, `start_ns`, `end_ns`, `cpus` (list), `wrong_words`,
        `first_wrong` (str), `stuck` (str, empty), `usage` (of the measured phase: `user_ns`, `system_ns`, `voluntary_switches`,
        `involuntary_switches`, `minor_faults`, `major_faults`), `mark_ns`, `mark_accesses`, `mark_pages` (how far it had got by
        when, in its first pass), `pass_end_ns` (lists), `longest_fault_ns`, counters by name."""
    def disturbers(self) -> list[dict[str, Any]]:
        """One a thread of a disturbance: `role` ("balloon" | "migrator" | "mmap_writer" | "device"), `number`, `tid`, `cpus`
        (list), `usage` (as a vCPU's), `done` (units), `rate_per_s` (asked of it; 0: as fast as it goes), `seconds`,
        `wrong_words`, `first_wrong` (str), counters by name."""
    def device_userfaultfd(self) -> tuple[int, list[dict[str, int]], int] | None:
        """Of the devices' own mapping, where they have one: descriptor, regions, and the memfd of its page record."""
    def records(self, vcpu: int) -> npt.NDArray[np.void]:
        """The vCPU's fault records (FAULT_DTYPE), a view without a copy."""
