"""What this host has and may do: probed once, before anything starts."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from loadgen.host.limits import NO_LIMITS, Limits, limits
from loadgen.host.numa import NumaNode, numa_nodes
from loadgen.host.swap_device import zram_there
from workers import _native


@dataclass(frozen=True)
class Host:
    """Sizes in bytes; `cpus` are the numbers this process may run on; `userfaultfd_way` is empty when there is none.
    `boot_id` is the running kernel's: what has the same one has the same CLOCK_MONOTONIC, and the same CPUs to fight for."""

    system: str
    name: str
    kernel: str
    cpu_model: str
    cpus: tuple[int, ...]
    memory_bytes: int
    free_bytes: int
    huge_pages_free: int
    userfaultfd_way: str
    userfaultfd_features: frozenset[str]
    userfaultfd_errors: tuple[tuple[str, str], ...]
    clock_source: str
    swap_bytes: int
    swap_free_bytes: int
    zram: bool
    root: bool
    kvm: bool
    tracefs: bool
    boot_id: str = ""
    may_migrate: bool = True
    kvm_exit_on_missing: str = ""
    kvm_most_vcpus: int = 0
    refused_base_pages: str = ""
    numa: tuple[NumaNode, ...] = ()
    limits: Limits = NO_LIMITS


def probe() -> Host:
    """This host, now."""
    memory = _meminfo()
    userfaultfd = _native.probe_userfaultfd()
    kvm = _native.probe_kvm()
    return Host(
        system=platform.system(),
        name=socket.gethostname(),
        kernel=platform.release(),
        cpu_model=_cpu_model(),
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        memory_bytes=memory.get("MemTotal", 0),
        free_bytes=memory.get("MemAvailable", 0),
        huge_pages_free=memory.get("HugePages_Free", 0),
        userfaultfd_way=userfaultfd["way"],
        userfaultfd_features=frozenset(userfaultfd["features"]),
        userfaultfd_errors=tuple(userfaultfd["errors"].items()),
        clock_source=_native.clock()["source"],
        swap_bytes=memory.get("SwapTotal", 0),
        swap_free_bytes=memory.get("SwapFree", 0),
        zram=zram_there(),
        root=os.geteuid() == 0,
        may_migrate=os.access("/proc/sys/vm/compact_memory", os.W_OK) and os.geteuid() == 0,
        kvm=kvm["usable"],
        kvm_exit_on_missing=kvm["exit_on_missing"],
        kvm_most_vcpus=kvm["most_vcpus"],
        refused_base_pages=_native.refuse_base_pages(os.sysconf("SC_PAGE_SIZE")),
        tracefs=any(os.access(path, os.R_OK) for path in ("/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events")),
        limits=limits(),
        numa=numa_nodes(),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    )


def host_columns(host: Host) -> dict[str, Any]:
    """Columns of a `runs` row: the machine, its kernel, and this package."""
    return {
        "kernel": host.kernel,
        "cpu_model": host.cpu_model,
        "host_cpus": len(host.cpus),
        "memory_bytes": host.memory_bytes,
        "userfaultfd_way": host.userfaultfd_way,
        "userfaultfd_features": ",".join(sorted(host.userfaultfd_features)),
        "clock_source": host.clock_source,
        "package_version": package_version(),
    }


@cache
def package_version() -> str | None:
    """The installed version of this package; None when it is not installed."""
    try:
        return version("uffd-loadgen")
    except PackageNotFoundError:
        return None


def _meminfo() -> dict[str, int]:
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, rest = line.partition(":")
        number, *unit = rest.split()
        values[key] = int(number) * (1024 if unit == ["kB"] else 1)
    return values


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
