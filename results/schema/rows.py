"""The columns of `vcpus`, `faults` and `threads`: the rows beneath a run."""

from __future__ import annotations

import pyarrow as pa

from results.schema.column import BOOL, COUNT, COUNTS, NAME, NS, REAL, TEXT, TIMES, Column
from results.schema.counters import COUNTERS, LOCK_READS
from results.schema.words import ROLES

VCPU_COLUMNS = (
    Column("run_id", NAME, "", "the run", True),
    Column("sweep_id", TEXT, "", "its sweep", True),
    Column("vcpu", pa.uint16(), "", "number of the vCPU, from 0 through all guests of the run", True),
    Column("vmm", pa.uint16(), "", "number of its VMM process, from 0 through all guests of the run"),
    Column("guest", pa.uint16(), "", "number of its guest, from 0"),
    Column("host", NAME, "", "its host"),
    Column("tid", COUNT, "", "thread id on the host"),
    Column("accesses", COUNT, "accesses", "accesses done"),
    Column("faults", COUNT, "faults", "accesses that found the page not mapped"),
    Column("pages_resolved", COUNT, "pages", "pages resolved for this vCPU, each counted once in its VMM"),
    Column("guest_pages_resolved", COUNT, "pages", "of them, those that no other VMM process had resolved before"),
    Column("start_ns", NS, "ns", "when it left the barrier"),
    Column("end_ns", NS, "ns", "when its last access was done"),
    Column("round_start_ns", TIMES, "ns", "when it left the barrier, in each round in turn"),
    Column("round_end_ns", TIMES, "ns", "when its last access was done, in each round that it finished"),
    Column("round_pages", COUNTS, "pages", "pages of the guest resolved for it in each round, each counted once in the guest"),
    Column("round_cpu_ns", COUNTS, "ns", "its CPU time in each round, from barrier to last access"),
    Column("cpus", pa.list_(pa.int32()), "", "CPUs it ran on"),
    Column("wrong_words", COUNT, "words", "wrong words it read"),
    Column("first_wrong", TEXT, "", "the first of them: page, what was there, what should have been"),
    Column("stuck", TEXT, "", "what it waited for when the watchdog ended the run"),
    Column("failure", TEXT, "", "error that ended it"),
    Column("bookkeeping_ns", NS, "ns", "time of its KVM host between two batches of 256 accesses, in which the guest makes none"),
    Column("recorded", COUNT, "faults", "faults that left a record"),
    *LOCK_READS,
    Column("longest_fault_ns", NS, "ns", "longest resumed - raised of its faults; 0: no fault"),
    Column("mark_ns", TIMES, "ns", "times of its progress marks, a few dozen in turn"),
    Column("mark_accesses", COUNTS, "accesses", "accesses of its first pass done at each of mark_ns"),
    Column("mark_pages", COUNTS, "pages", "its pages_resolved at each of mark_ns"),
    Column("pass_end_ns", TIMES, "ns", "when each of its passes ended"),
    *COUNTERS,
)

FAULT_COLUMNS = (
    Column("run_id", NAME, "", "the run", True),
    Column("sweep_id", TEXT, "", "its sweep", True),
    Column("vcpu", pa.uint16(), "", "the vCPU that touched the page", True),
    Column("page", pa.uint32(), "", "page number in its guest's region", True),
    Column("round", pa.uint16(), "", "round of the run in which it was raised, from 0"),
    Column("kind", NAME, "", "the state the page was prepared in", True),
    Column("outcome", NAME, "", "how the fault ended", True),
    Column("exit", NAME, "", "how its first exit arrived; none: the vCPU did not exit"),
    Column("intended_ns", NS, "ns", "open loop, or a trace's gaps: when the access was intended"),
    Column(
        "raised_ns",
        NS,
        "ns",
        "the vCPU touched the page; its first exit from, or sleep in, one recorded as mapped: when that arrived",
    ),
    Column("delivered_ns", NS, "ns", "a reader had read the event, or the exit had arrived"),
    Column("fetched_ns", NS, "ns", "the contents were complete"),
    Column("installed_ns", NS, "ns", "the resolve call had returned"),
    Column("resumed_ns", NS, "ns", "the access was done"),
    Column("cpu", pa.uint16(), "", "CPU the vCPU was on"),
    Column("guest", pa.uint16(), "", "number of the guest, from 0"),
    Column("host", NAME, "", "its host; times of different hosts cannot be compared"),
    Column("emulated_exits", pa.uint8(), "exits", "emulated exits the fault paid for; 255: that many or more"),
    Column("emulated_entries", pa.uint8(), "violations", "emulated stage-2 violations without an exit it paid for, likewise"),
    Column("write", BOOL, "", "whether the access writes"),
)

ROUND_COLUMNS = (
    Column("run_id", NAME, "", "the run", True),
    Column("sweep_id", TEXT, "", "its sweep", True),
    Column("round", pa.uint16(), "", "number of the round in its run, from 0", True),
    Column("first", BOOL, "", "whether it is the first round of its run", True),
    Column("guest", pa.uint16(), "", "number of the guest, from 0"),
    Column("host", NAME, "", "its host; times of different hosts cannot be compared"),
    Column("start_ns", NS, "ns", "when the first vCPU left the barrier"),
    Column("end_ns", NS, "ns", "when the last vCPU's last access was done"),
    Column("pages_resolved", COUNT, "pages", "pages resolved in the round"),
    Column("cpu_ns", COUNT, "ns", "CPU time of the guest's vCPUs in the round"),
)

THREAD_COLUMNS = (
    Column("run_id", NAME, "", "the run", True),
    Column("sweep_id", TEXT, "", "its sweep", True),
    Column("role", NAME, "", f"{', '.join(ROLES)} (the driver's row is its whole process)", True),
    Column("number", pa.int32(), "", "number among those of its role, from 0", True),
    Column("vmm", pa.uint16(), "", "number of its VMM process; null where it belongs to none"),
    Column("guest", pa.uint16(), "", "number of its guest; null for the driver"),
    Column("host", NAME, "", "its host; null for the driver"),
    Column("tid", COUNT, "", "thread id on the host"),
    Column("user_ns", NS, "ns", "CPU time in user mode; the kernel's ticks split the sum, which is exact"),
    Column("system_ns", NS, "ns", "CPU time in the kernel"),
    Column("voluntary_switches", COUNT, "switches", "voluntary context switches"),
    Column("involuntary_switches", COUNT, "switches", "involuntary context switches: it was preempted"),
    Column("minor_faults", COUNT, "faults", "page faults without I/O that the kernel counted, on any memory"),
    Column("major_faults", COUNT, "faults", "page faults with I/O"),
    Column("cpus", pa.list_(pa.int32()), "", "CPUs it was seen on"),
    Column("asked_per_s", REAL, "1/s", "of a disturbance: rate asked for; null: as fast as it goes"),
    Column("achieved_per_s", REAL, "1/s", "of a disturbance: rate achieved"),
    *COUNTERS,
)
