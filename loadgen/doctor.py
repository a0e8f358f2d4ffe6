"""The command `loadgen-doctor`: what this host can do, the legality matrix, and for each lack the command that grants it."""

from __future__ import annotations

from collections.abc import Iterator

from loadgen.host.kvm_probe import kvm_facts
from loadgen.host.probe import Host, probe
from loadgen.plan.legality import WAYS_OUT, judge, needed_features
from results.tables.console import print_rows
from workers.registry import strategy_entries
from workers.spec import FAULT_KINDS, MEMORY_TYPES

GIB = 1 << 30


def facts(host: Host) -> list[tuple[str, str]]:
    """What there is, in the user's words."""
    return [
        ("kernel", f"{host.system} {host.kernel}"),
        ("CPUs", f"{len(host.cpus)} of {host.cpu_model}"),
        ("memory", f"{host.free_bytes / GIB:.1f} GiB free of {host.memory_bytes / GIB:.1f}"),
        ("userfaultfd", host.userfaultfd_way or "none"),
        ("features", ", ".join(sorted(host.userfaultfd_features)) or "none"),
        ("clock", host.clock_source),
        ("huge pages", f"{host.huge_pages_free} free"),
        ("swap", f"{host.swap_bytes / GIB:.1f} GiB"),
        ("/dev/kvm", "usable" if host.kvm else "not usable"),
        ("tracefs", "readable" if host.tracefs else "not readable"),
    ]


def lacks(host: Host) -> Iterator[tuple[str, str]]:
    """What is missing, and the command that grants it."""
    if not host.userfaultfd_way:
        yield "no userfaultfd for this user", WAYS_OUT
    elif host.userfaultfd_way == "user_mode_only":
        yield "userfaultfd handles faults of user mode only: system calls on guest memory and populate fail", WAYS_OUT
    if host.huge_pages_free == 0:
        yield "memory=hugetlb cannot be used", "sysctl vm.nr_hugepages=64  (128 MiB)"
    if host.swap_bytes == 0:
        yield "no swap", "swap=zram or swap=file sets it up for the runs (as root)"
    if not host.tracefs:
        yield "kernel tracepoints cannot be read", "mount -t tracefs nodev /sys/kernel/tracing  (as root)"
    if not host.kvm:
        yield "/dev/kvm cannot be used", "modprobe kvm, and membership of the group kvm"


def matrix(host: Host) -> list[tuple[str, str, str, str]]:
    """(strategy, memory, page kinds that may be run, why others may not and what is needed)."""
    rows = []
    for name, entry in strategy_entries().items():
        for memory in MEMORY_TYPES if {*entry["memory_types"]} & {*MEMORY_TYPES} else entry["memory_types"]:
            verdicts = {kind: judge(entry, memory, kind, host) for kind in FAULT_KINDS}
            allowed = [kind for kind, verdict in verdicts.items() if verdict.allowed]
            if memory not in entry["memory_types"]:
                why = verdicts[FAULT_KINDS[0]].reason
            else:
                why = "; ".join(dict.fromkeys(v.reason for v in verdicts.values() if v.reason))
            features = ", ".join(sorted(needed_features(entry, memory))) or "none"
            rows.append((name, memory, ", ".join(allowed) or "-", why or f"needs {features}"))
    return rows


def main() -> int:
    """Entry point; exit status 0, or 1 when nothing at all can be measured here."""
    host = probe()
    print_rows(("this host", ""), [*facts(host), *kvm_facts()])
    print()
    print_rows(("strategy", "memory", "fault kinds", "needs, or why not"), matrix(host))
    missing = list(lacks(host))
    if missing:
        print()
        print_rows(("lacking", "how to get it"), missing)
    return 0 if host.userfaultfd_way else 1


if __name__ == "__main__":
    raise SystemExit(main())
