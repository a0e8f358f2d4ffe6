"""The plan: the untyped configuration ends here. Pure: no Ray, no clock; the same configuration gives the same runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from loadgen.host.probe import Host
from loadgen.plan.fault_shares import settle
from loadgen.plan.legality import memory_type_of
from loadgen.plan.placement import place
from loadgen.plan.swap_size import plan_swap
from loadgen.plan.trace import read_trace
from workers.disturb_spec import DisturbSpec
from workers.registry import engine_entry, strategy_entry
from workers.spec import (
    AccessSpec,
    FaultMixSpec,
    InjectSpec,
    MemorySpec,
    PageServerSpec,
    PrefetchSpec,
    RunSpec,
    SourceSpec,
    StrategySpec,
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
    """A run with what the driver wants to know of it before it starts; memory in bytes, time in seconds (a rough guess).

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


def plan_run(cfg: DictConfig, host: Host, job: int = 0) -> PlannedRun:
    """The run of a validated configuration with the first of its guests: `repeat` and `sweep_id` as they stand in it, `job` its
    number in the sweep. `loadgen.plan.guests_over_hosts` plans the others."""
    values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    settle(values["fault_mix"])
    command, job_overrides = values.pop("command"), values.pop("job_overrides")
    values.pop("resume")  # of the command, not of any run
    entry = strategy_entry(values["strategy"]["name"])
    cores = values["cores"] or len(host.cpus)
    vmms = values["vcpus"] // values["vcpus_per_vmm"]
    disturb = DisturbSpec.of(values["disturb"])
    uffds = vmms * (values["uffds_per_vmm"] + disturb.second_mapping) if entry["userfaultfd"] else 0
    memory = MemorySpec(
        memory_type_of(entry, values["memory"]["type"]),
        values["memory"]["region_mib"] * MIB,
        values["memory"]["page_bytes"],
        values["memory"]["transparent_huge_pages"],
    )
    access = _access(values["access"])
    capacity, sample_every = _records(memory.pages, access, values["vcpus"], values["faults_limit"])
    asked = values["page_server"]
    spec = RunSpec(
        run_id=f"{values['sweep_id']}-{values['repeat']:03d}-{job:05d}",
        sweep_id=values["sweep_id"],
        repeat=values["repeat"],
        seed=values["seed"] + values["repeat"] * values["guests"],
        engine=values["engine"]["name"],
        engine_options=strategy_options(engine_entry(values["engine"]["name"]), values["engine"]),
        strategy=StrategySpec(entry["name"], strategy_options(entry, values["strategy"])),
        memory=memory,
        fault_mix=FaultMixSpec(**{key: value for key, value in values["fault_mix"].items() if key not in ("name", "rest")}),
        access=access,
        page_server=PageServerSpec(
            asked["readers_per_uffd"],
            asked["wait"],
            asked["events_per_read"],
            asked["delay_us"],
            asked["delay_distribution"],
            tuple(asked["allow_uids"]),
            asked["handshake_timeout_s"],
            InjectSpec(**{one.name: asked[one.name] for one in fields(InjectSpec)}),
        ),
        placement=place(
            values["placement"]["policy"],
            host.cpus[:cores],
            values["vcpus"],
            asked["readers_per_uffd"] * uffds,
            values["placement"]["vcpu_cpus"],
            values["placement"]["reader_cpus"],
        ),
        vcpus=values["vcpus"],
        vcpus_per_vmm=values["vcpus_per_vmm"],
        uffds_per_vmm=values["uffds_per_vmm"],
        cores=cores,
        verify=values["verify"],
        watchdog_s=values["watchdog_s"],
        sample_every=sample_every,
        record_capacity=capacity,
        source=_source(values),
        on_memory_error=values["on_memory_error"],
        recover=values["recover"],
        swap=plan_swap(values),
        gated=values["guests"] > 1,
        disturb=disturb,
        count_mmap_lock=values["count_mmap_lock"],
        prefetch=_prefetch(values["prefetch"]),
    )
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
        memory_bytes=memory_needed(memory, access, values["vcpus"], capacity)
        + (vmms + 1) * ACTOR_BYTES
        + _source_bytes(spec)
        + _zram_bytes(spec),
        estimated_s=ESTIMATED_OVERHEAD_S
        + memory.pages / ESTIMATED_PAGES_PER_S
        + max(_open_loop_s(memory, access, values["vcpus"]), access.hold_ns / 1e9)
        + memory.pages * spec.fault_mix.absent * spec.source.rtt_us / 1e6 / spec.vcpus,
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


def strategy_options(entry: dict[str, Any], values: dict[str, Any]) -> dict[str, int]:
    """The options of `entry` (of a native registry) as the core takes them: a choice becomes its index."""
    return {
        option["name"]: option["choices"].index(values[option["name"]]) if option["choices"] else values[option["name"]]
        for option in entry["options"]
    }


def _access(values: dict[str, Any]) -> AccessSpec:
    return AccessSpec(
        order=values["order"],
        overlap=values["overlap"],
        read_share=values["read_share"],
        passes=values["passes"],
        accesses=values["accesses"],
        stride_pages=values["stride_pages"],
        zipf_exponent=values["zipf_exponent"],
        trace=read_trace(values["trace_file"]) if values["order"] == "trace" else (),
        think_ns=round(values["think_us"] * 1000),
        rate_per_s=values["rate_per_s"],
        hold_ns=round(values["hold_s"] * 1e9),
    )


def _source(values: dict[str, Any]) -> SourceSpec:
    """Contents computed here are new in every repeat; those of a file, or of a source elsewhere, are what they are."""
    local = values["source"]["name"] == "local"
    return SourceSpec(**values["source"], seed=values["seed"] + (values["repeat"] * values["guests"] if local else 0))


def _prefetch(values: dict[str, Any]) -> PrefetchSpec:
    pages = read_trace(values["working_set_file"]) if values["name"] == "working_set" else ()
    return PrefetchSpec(values["name"], pages, values["batch_pages"], values["mib_per_s"])


def _source_bytes(spec: RunSpec) -> int:
    own = spec.source.name == "remote" and not spec.source.address
    return spec.memory.region_bytes + ACTOR_BYTES if own else 0


def _zram_bytes(spec: RunSpec) -> int:
    """The pages it swaps out stay in memory, and ours do not compress."""
    return round(spec.memory.region_bytes * spec.fault_mix.swapped) if spec.swap.kind == "zram" else 0


def _records(pages: int, access: AccessSpec, vcpus: int, limit: int) -> tuple[int, int]:
    """(records preallocated a vCPU, every how-many-th fault is kept), so that a run keeps at most `limit` of them; 0: none."""
    if limit == 0:
        return 0, 1
    expected = pages if access.overlap else -(-pages // vcpus)
    kept = max(1, min(expected, limit // vcpus))
    sample_every = -(-expected // kept)
    # A page that is lost to a race or resolved again faults more than once: leave room for some.
    return kept + kept // 8 + 64, sample_every


def _open_loop_s(memory: MemorySpec, access: AccessSpec, vcpus: int) -> float:
    if access.rate_per_s <= 0 and access.think_ns <= 0:
        return 0.0
    accesses = access.passes * (access.accesses or (memory.pages if access.overlap else memory.pages // vcpus))
    between = access.think_ns / 1e9 + (1 / access.rate_per_s if access.rate_per_s > 0 else 0.0)
    return accesses * between
