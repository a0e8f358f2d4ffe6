"""How noisy the host was while a run was measured, and whether the run is flagged for it: true, false or not judged.

It looks once before the measured phase and once after it, never in between: at the CPU time of every thread of its process
tree (driver, Ray, actors; nanoseconds, from /proc/PID/task/TID/schedstat) and at the machine's (/proc/stat, in ticks). What
the tree used beside the vCPU, reader and ring threads is benchmark overhead; what the machine used beside the tree is other
processes'.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.derive.trust import PLACED_ROLES, TICKS_PER_S, Seen, judged

NS_PER_S = 1_000_000_000

SERVER_ROLES = ("reader", "ring")
"""Threads that live longer than the measured phase, so that the snapshots have them; of others only what they have counted."""
BETWEEN_ROUNDS = "vmm"
"""A VMM process's own thread: it prepares the page states while no vCPU runs, and sleeps while they do."""
IDLE_BELOW = 0.01
"""A thread that uses less of a CPU does not disturb a run."""


@dataclass(frozen=True)
class Snapshot:
    """What had been used at `at_s` (monotonic clock). `thread_ns`: CPU time by thread id, of the driver's process tree;
    `busy_s` and `steal_s`: of the whole machine."""

    at_s: float
    thread_ns: Mapping[int, int]
    busy_s: float
    steal_s: float
    load_average: float
    driver: resource.struct_rusage
    driver_cpu: int


def snapshot(root: int | None = None) -> Snapshot:
    """Look now, at the process tree of `root` (a pid; this process's own unless given); takes some milliseconds."""
    busy_s, steal_s = _machine()
    return Snapshot(
        at_s=time.monotonic(),
        thread_ns={tid: ns for pid in _tree(root or os.getpid()) for tid, ns in _threads(pid)},
        busy_s=busy_s,
        steal_s=steal_s,
        load_average=os.getloadavg()[0],
        driver=resource.getrusage(resource.RUSAGE_SELF),
        driver_cpu=int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[36]),
    )


def cpu_share(before: Snapshot, after: Snapshot, without: frozenset[int] = frozenset()) -> float:
    """CPUs that the process tree used between the two looks; threads whose ids are in `without` do not count."""
    return _spent_ns(before, after, set(after.thread_ns) - without) / NS_PER_S / (after.at_s - before.at_s)


def watched(
    before: Snapshot,
    after: Snapshot,
    threads: Sequence[Mapping[str, Any]],
    *,
    lag_s: float | None,
    unprepared: int,
    exclusive: bool,
) -> dict[str, Any]:
    """Columns of a `runs` row, `trusted` and `distrust` among them. `threads`: rows of the measured threads; `exclusive`:
    each vCPU and each reader has a CPU of its own.

    Threads of vCPUs and disturbances live inside the measured phase, so the snapshots lack them: theirs is what they have
    counted themselves.
    """
    watched_s = after.at_s - before.at_s
    inside_ns = sum(thread["user_ns"] + thread["system_ns"] for thread in threads if thread["role"] not in SERVER_ROLES)
    server_ns = _spent_ns(before, after, {int(thread["tid"]) for thread in threads if thread["role"] in SERVER_ROLES})
    rig = cpu_share(before, after, without=frozenset(int(thread["tid"]) for thread in threads))
    ours = rig + (inside_ns + server_ns) / NS_PER_S / watched_s
    placed = [thread["involuntary_switches"] for thread in threads if thread["role"] in PLACED_ROLES]
    unplaced = [thread for thread in threads if thread["role"] not in (*PLACED_ROLES, BETWEEN_ROUNDS)]
    alone = exclusive and not any(
        max(_spent_ns(before, after, {int(thread["tid"])}), _counted_ns(thread)) > IDLE_BELOW * watched_s * NS_PER_S
        for thread in unplaced
    )
    seen = Seen(
        watched_s=watched_s,
        machine_cpus=os.cpu_count() or 1,
        unprepared=unprepared,
        rig_cpu_share=rig,
        other_cpu_share=max(0.0, (after.busy_s - before.busy_s) / watched_s - ours),
        steal_share=(after.steal_s - before.steal_s) / watched_s,
        lag_s=lag_s,
        switches_per_s=sum(placed) / len(placed) / watched_s if alone and placed else None,
    )
    trusted, found = judged(seen)
    return {
        "watched_s": watched_s,
        "machine_cpus": seen.machine_cpus,
        "rig_cpu_share": rig,
        "driver_cpu_share": driver_cpu_share(before, after),
        "driver_lag_s": lag_s,
        "other_cpu_share": seen.other_cpu_share,
        "steal_share": seen.steal_share,
        "load_average": before.load_average,
        "involuntary_switches": sum(placed),
        "trusted": trusted,
        "distrust": "; ".join(found) or None,
    }


def driver_cpu_share(before: Snapshot, after: Snapshot) -> float:
    """CPUs that the process that took the looks used between them."""
    return (_cpu_s(after.driver) - _cpu_s(before.driver)) / (after.at_s - before.at_s)


def driver_row(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """The driver's row of `threads`: its whole process, between the two looks."""
    first, last = before.driver, after.driver
    return {
        "role": "driver",
        "number": 0,
        "tid": os.getpid(),
        "user_ns": round((last.ru_utime - first.ru_utime) * NS_PER_S),
        "system_ns": round((last.ru_stime - first.ru_stime) * NS_PER_S),
        "voluntary_switches": last.ru_nvcsw - first.ru_nvcsw,
        "involuntary_switches": last.ru_nivcsw - first.ru_nivcsw,
        "minor_faults": last.ru_minflt - first.ru_minflt,
        "major_faults": last.ru_majflt - first.ru_majflt,
        "cpus": sorted({before.driver_cpu, after.driver_cpu}),
    }


def _cpu_s(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _spent_ns(before: Snapshot, after: Snapshot, tids: set[int]) -> int:
    return sum(after.thread_ns.get(tid, 0) - before.thread_ns.get(tid, 0) for tid in tids if tid in after.thread_ns)


def _counted_ns(thread: Mapping[str, Any]) -> int:
    """What a thread that lived inside the measured phase has counted itself."""
    return 0 if thread["role"] in SERVER_ROLES else int(thread["user_ns"] + thread["system_ns"])


def _machine() -> tuple[float, float]:
    """(seconds all CPUs were busy since boot, seconds the hypervisor took), of the first line of /proc/stat."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split(maxsplit=11)[1:11])
    return (user + nice + system + irq + softirq) / TICKS_PER_S, steal / TICKS_PER_S


def _tree(root: int) -> list[int]:
    """`root` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:  # gone meanwhile
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _threads(pid: int) -> Iterator[tuple[int, int]]:
    """(thread id, CPU time in ns) of each of a process's threads."""
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{tid}/schedstat") as stat:
                yield int(tid), int(stat.read().split()[0])
    except OSError:  # gone meanwhile
        return
