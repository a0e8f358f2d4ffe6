"""What this process may use of its host besides memory and CPUs that are there, and what a run needs of it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loadgen.host.cgroups import Cgroups, Quota, Room

MIB = 1 << 20
SHARED_MEMORY = "/dev/shm"
RAY_TASKS = 150
"""Processes and threads of an embedded Ray and its driver at their peak. On 2 CPUs 189 were counted in all (`pids.peak`) with two
actors, and 416 with nine."""
ACTOR_TASKS = 32
"""Of an actor, besides the threads it starts for its guest."""
RAY_BYTES = 480 * MIB
"""Memory that an embedded Ray and its driver are charged for: the peak was 570 MiB with two actors."""
RAY_DESCRIPTORS = 1024
DESCRIPTORS_PER_UFFD = 4
"""In the page server: the userfaultfd, its connection, and the memfds of the page record and the faults."""
SMALLEST_STORE_BYTES, LARGEST_STORE_BYTES = 80 * MIB, 512 * MIB
"""Of Ray's object store: it takes no less, and no chunk of records needs more."""


@dataclass(frozen=True)
class Limits:
    """Room in control groups (None: no limit), open files a process may have at most, mappings a process may have, and whether
    it may write to /dev/shm."""

    memory: Room | None = None
    tasks: Room | None = None
    cpu_quota: Quota | None = None
    open_files: int = 1 << 20
    mappings: int = 65530
    shared_memory: bool = True


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Needs:
    """What the guests of a run need of a host: bytes, actors, threads in them, userfaultfds (in all and of one VMM process)."""

    memory_bytes: int
    actors: int
    threads: int
    uffds: int
    uffds_per_vmm: int = field(default=1)

    @property
    def tasks(self) -> int:
        """Processes and threads."""
        return RAY_TASKS + ACTOR_TASKS * self.actors + self.threads


def limits() -> Limits:
    """Those of this process, now."""
    groups = Cgroups()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_files = hard if hard != resource.RLIM_INFINITY else 1 << 20
    mappings = int(Path("/proc/sys/vm/max_map_count").read_text())
    shared_memory = os.access(SHARED_MEMORY, os.W_OK)
    return Limits(groups.memory(), groups.tasks(), groups.cpu_quota(), open_files, mappings, shared_memory)


def raise_open_files() -> None:
    """Let this process and its children open as many files as the hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def object_store_bytes() -> int:
    """The size of Ray's object store: half of what is free in /dev/shm, within what it can be."""
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return LARGEST_STORE_BYTES
    half = status.f_bavail * status.f_frsize // 2
    return min(LARGEST_STORE_BYTES, max(SMALLEST_STORE_BYTES, half))


def shortages(needs: Needs, there: Limits) -> Iterator[str]:
    """What this process may use too little of, with what to do."""
    if there.memory is not None and needs.memory_bytes + RAY_BYTES > there.memory.left:
        yield (
            f"the run and Ray need {(needs.memory_bytes + RAY_BYTES) / MIB:.0f} MiB, and the control group leaves "
            f"{there.memory.left / MIB:.0f} of {there.memory.limit / MIB:.0f} MiB ({there.memory.path}): raise it, or use a "
            "smaller memory.region_mib or faults_limit"
        )
    if there.tasks is not None and needs.tasks > there.tasks.left:
        yield (
            f"the run and Ray need {needs.tasks} processes and threads, and the control group leaves {there.tasks.left} of "
            f"{there.tasks.limit} ({there.tasks.path}): raise that limit, or use fewer vcpus (with a larger vcpus_per_vmm)"
        )
    if (files := RAY_DESCRIPTORS + DESCRIPTORS_PER_UFFD * needs.uffds) > there.open_files:
        yield (
            f"{needs.uffds} userfaultfds need {files} open files, and a process may have {there.open_files}: raise the hard "
            "limit (`ulimit -Hn`), or use fewer VMM processes or a smaller uffds_per_vmm"
        )
    if 2 * needs.uffds_per_vmm + 1024 > there.mappings:
        yield (
            f"uffds_per_vmm={needs.uffds_per_vmm} makes more mappings than a process may have ({there.mappings}): "
            f"`sysctl vm.max_map_count={2 * needs.uffds_per_vmm + 1024}`, or use a smaller uffds_per_vmm"
        )
    if not there.shared_memory:
        yield (
            f"{SHARED_MEMORY} cannot be written, and Ray keeps its object store there: mount a tmpfs on it that this user may "
            "write to"
        )


def in_words(there: Limits) -> list[tuple[str, str]]:
    """(what, its limit) of every limit there is."""
    quota, memory, tasks = there.cpu_quota, there.memory, there.tasks
    return [
        ("CPU quota", f"{quota.cpus:g} CPUs ({quota.path})" if quota else "none"),
        ("memory limit", f"{memory.left >> 20} MiB left of {memory.limit >> 20} ({memory.path})" if memory else "none"),
        ("task limit", f"{tasks.left} left of {tasks.limit} ({tasks.path})" if tasks else "none"),
        ("open files", f"at most {there.open_files} in a process"),
        ("mappings", f"at most {there.mappings} in a process"),
    ]
