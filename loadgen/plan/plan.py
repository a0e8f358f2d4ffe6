"""The plan: the untyped configuration ends here. Pure: no Ray, no clock; the same configuration gives the same runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadgen.host.probe import Host
from loadgen.plan.fault_shares import settle
from loadgen.plan.rounds import measured_s
from loadgen.plan.specs import run_spec
from loadgen.plan.values import Config, plain
from workers.spec import (
    AccessSpec,
    MemorySpec,
    RunSpec,
)

MIB = 1 << 20
RECORD_BYTES = 64
ACTOR_BYTES = 40 * MIB  # private memory of a Ray actor; the page server's is one too
ESTIMATED_PAGES_PER_S = 30_000
ESTIMATED_OVERHEAD_S = 0.3
NOT_MEASURED = ("cluster", "dataset", "dry_run", "json", "quiet", "recover", "repeats", "resume", "sweep_id")
"""Keys of the configuration in which two runs may differ and still be the same measurement."""


@dataclass(frozen=True)
class PlannedGuest:
    """One guest of a run; `host`: the number of the host it will be on, among those the plan was given."""

    number: int
    host: int
    spec: RunSpec


@dataclass(frozen=True)
class PlannedRun:
    """A run with what the driver needs before it starts; memory in bytes, time in seconds (a rough guess).

    `spec` is that of the first guest; `guests` are all of them. `exclusive`: no other run measures on its hosts meanwhile.
    """

    spec: RunSpec
    fault_mix_name: str
    config_json: str
    plan_key: str
    command: str
    job_overrides: str
    memory_bytes: int
    estimated_s: float
    guests: tuple[PlannedGuest, ...]
    cluster: str = "local"
    exclusive: bool = True

    @property
    def actors(self) -> int:
        """Page servers and VMM processes of all guests."""
        return sum(guest.spec.vmms + 1 for guest in self.guests)


def plan_run(cfg: Config, host: Host, job: int = 0) -> PlannedRun:
    """The run of a validated configuration with the first of its guests: `repeat` and `sweep_id` as they stand in it, `job` its
    number in the sweep. `loadgen.plan.guests_over_hosts` plans the others."""
    values = plain(cfg)
    settle(values["fault_mix"])
    command, job_overrides = values.pop("command"), values.pop("job_overrides")
    values.pop("resume")  # of the command, not of any run
    spec = run_spec(values, host, job)
    memory, access = spec.memory, spec.access
    return PlannedRun(
        spec=spec,
        guests=(PlannedGuest(0, 0, spec),),
        cluster=values["cluster"]["name"],
        exclusive=values["cluster"]["exclusive"],
        fault_mix_name=values["fault_mix"]["name"],
        config_json=json.dumps(values, sort_keys=True),
        plan_key=plan_key(values),
        command=command,
        job_overrides=job_overrides,
        memory_bytes=memory_needed(memory, access, spec.vcpus, spec.record_capacity)
        + (spec.vmms + 1) * ACTOR_BYTES
        + _source_bytes(spec)
        + _zram_bytes(spec),
        estimated_s=ESTIMATED_OVERHEAD_S + measured_s(spec, _round_s(spec)),
    )


def plan_key(values: Mapping[str, Any]) -> str:
    """By which a run is known whatever sweep it is of: a hash of all of its resolved configuration that bears on what is
    measured, and of its repeat."""
    measured = {key: value for key, value in values.items() if key not in NOT_MEASURED}
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:32]


def memory_needed(memory: MemorySpec, access: AccessSpec, vcpus: int, capacity: int) -> int:
    """Bytes a run needs: region, page tables and records of every vCPU, access orders."""
    region = 0 if memory.type == "hugetlb" else memory.region_bytes
    orders = 4 * memory.pages * (vcpus if access.overlap else 1)
    return region + region // 256 + vcpus * capacity * RECORD_BYTES + orders


def _source_bytes(spec: RunSpec) -> int:
    """Of a source of our own; of a snapshot that holds anything, a word of each page, in the page server and in shared memory."""
    own = spec.source.name == "remote" and not spec.source.address
    words = 2 * 8 * spec.memory.pages if spec.source.contents_of_file else 0
    return words + (spec.memory.region_bytes + ACTOR_BYTES if own else 0)


def _zram_bytes(spec: RunSpec) -> int:
    """The pages it swaps out stay in memory, and ours do not compress."""
    return round(spec.memory.region_bytes * spec.fault_mix.swapped) if spec.swap.kind == "zram" else 0


def _round_s(spec: RunSpec) -> float:
    """A rough guess of what a round takes."""
    memory, access = spec.memory, spec.access
    return (
        memory.pages / ESTIMATED_PAGES_PER_S
        + max(_open_loop_s(memory, access, spec.vcpus), access.hold_ns / 1e9)
        + memory.pages * spec.fault_mix.absent * spec.source.rtt_us / 1e6 / spec.vcpus
    )


def _open_loop_s(memory: MemorySpec, access: AccessSpec, vcpus: int) -> float:
    if access.recorded.due_ns:
        return access.passes * access.recorded.due_ns[-1] / 1e9
    if access.rate_per_s <= 0 and access.think_ns <= 0:
        return 0.0
    accesses = access.passes * (access.accesses or (memory.pages if access.overlap else memory.pages // vcpus))
    between = access.think_ns / 1e9 + (1 / access.rate_per_s if access.rate_per_s > 0 else 0.0)
    return accesses * between
