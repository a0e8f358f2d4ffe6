"""The command `loadgen-doctor`: what this host can do, what each strategy can run here, and how to fix what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from loadgen.host.kvm_probe import kvm_facts
from loadgen.host.limits import in_words
from loadgen.host.numa import as_list
from loadgen.host.probe import Host, probe
from loadgen.host.userfaultfd_advice import userfaultfd_advice
from loadgen.plan.legality import judge
from results.tables.console import print_line, print_notes, print_rows
from workers.registry import strategy_entries
from workers.spec import FAULT_KINDS, MEMORY_TYPES

GIB = 1 << 30


def facts(host: Host) -> list[tuple[str, str]]:
    """(fact, value) of the host."""
    return [
        ("kernel", f"{host.system} {host.kernel}"),
        ("CPUs", f"{len(host.cpus)} of {host.cpu_model}"),
        *numa(host),
        ("memory", f"{host.free_bytes / GIB:.1f} GiB free of {host.memory_bytes / GIB:.1f}"),
        *in_words(host.limits),
        ("userfaultfd", host.userfaultfd_way or "none"),
        ("features", ", ".join(sorted(host.userfaultfd_features)) or "none"),
        ("clock", host.clock_source),
        ("huge pages", f"{host.huge_pages_free} free"),
        ("swap", f"{host.swap_bytes / GIB:.1f} GiB"),
        ("/dev/kvm", "usable" if host.kvm else "not usable"),
        ("tracefs", "readable" if host.tracefs else "not readable"),
    ]


def numa(host: Host) -> Iterator[tuple[str, str]]:
    """A line a NUMA node; none on a host without any."""
    for node in host.numa:
        has = f"CPUs {as_list(node.cpus)}" if node.cpus else "no CPUs"
        distances = ", ".join(f"{to} to node {other.number}" for other, to in zip(host.numa, node.distances, strict=True))
        yield f"NUMA node {node.number}", f"{has}; {node.memory_bytes / GIB:.1f} GiB; distance {distances}"


def missing(host: Host) -> Iterator[tuple[str, str]]:
    """(what is missing, the command that fixes it)."""
    if not host.userfaultfd_way:
        yield "no userfaultfd for this user", userfaultfd_advice(host)
    elif host.userfaultfd_way == "user_mode_only":
        yield (
            "userfaultfd handles faults of user mode only: system calls on guest memory and populate fail",
            userfaultfd_advice(host),
        )
    if host.huge_pages_free == 0:
        yield "memory=hugetlb cannot be used", "sysctl vm.nr_hugepages=64  (128 MiB)"
    if host.swap_bytes == 0:
        yield "no swap", "swap=zram or swap=file sets it up for the runs (as root)"
    if not host.tracefs:
        yield "kernel tracepoints cannot be read", "mount -t tracefs nodev /sys/kernel/tracing  (as root)"
    if not host.kvm:
        yield "/dev/kvm cannot be used", "modprobe kvm, and membership of the group kvm"


MEMORIES = (*MEMORY_TYPES, "file")


def kinds(host: Host) -> dict[tuple[str, str], dict[str, str]]:
    """By (strategy, memory) that belong together: each fault kind with why it cannot be run here, empty where it can."""
    return {
        (name, memory): {kind: judge(entry, memory, kind, host).reason for kind in FAULT_KINDS}
        for name, entry in strategy_entries().items()
        for memory in MEMORIES
        if memory in entry["memory_types"]
    }


def matrix(host: Host) -> list[tuple[str, ...]]:
    """One row a strategy: by memory the initials of the fault kinds that can be run here, and what the strategy needs."""
    found = kinds(host)
    return [
        (
            name,
            *(_initials(found.get((name, memory), {})) for memory in MEMORIES),
            ", ".join(("userfaultfd", *entry["features"])) if entry["userfaultfd"] else "-",
        )
        for name, entry in strategy_entries().items()
    ]


def _initials(by_kind: Mapping[str, str]) -> str:
    return "".join("-" if reason else kind[0] for kind, reason in by_kind.items())


def reasons(host: Host) -> dict[str, list[str]]:
    """Why fault kinds cannot be run, each reason once, with the memories, and the strategies if it does not name its own."""
    found: dict[str, list[str]] = {}
    for (name, memory), by_kind in kinds(host).items():
        for reason in dict.fromkeys(reason for reason in by_kind.values() if reason):
            found.setdefault(reason, []).append(memory if name in reason else f"{name} {memory}")
    return found


def main() -> int:
    """Entry point; exit status 0, or 1 when nothing at all can be measured here."""
    host = probe()
    print_rows(("this host", ""), [*facts(host), *kvm_facts()])
    print()
    print_rows(("strategy", *MEMORIES, "needs"), matrix(host))
    print_notes([f"{', '.join(f'{kind[0]} {kind}' for kind in FAULT_KINDS)}; -: cannot be run, for a reason below"])
    for reason, where in reasons(host).items():
        print_line(f"{', '.join(where)}: {reason}")
    print()
    fixes = list(missing(host))
    if fixes:
        print_rows(("missing", "fix"), fixes)
    return 0 if host.userfaultfd_way else 1


if __name__ == "__main__":
    raise SystemExit(main())
