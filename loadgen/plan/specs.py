"""The specs of one run from a resolved configuration: keys become fields of the same name, so a new key needs no line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from loadgen.host.numa import cpus_by_node
from loadgen.host.probe import Host
from loadgen.plan.legality import memory_type_of
from loadgen.plan.placement import OF_NODES, place, place_on_nodes
from loadgen.plan.rounds import one_round, records
from loadgen.plan.swap_size import MIB, plan_swap
from loadgen.plan.trace import pages_in, trace_spec
from workers.disturb_spec import DisturbSpec
from workers.registry import engine_entry, strategy_entry
from workers.spec import (
    NO_TRACE,
    AccessSpec,
    ExternalSpec,
    FaultMixSpec,
    InjectSpec,
    MemorySpec,
    PageServerSpec,
    PlacementSpec,
    PrefetchSpec,
    RunSpec,
    SourceSpec,
    StrategySpec,
)

Values = Mapping[str, Any]
Spec = TypeVar("Spec")


def run_spec(values: Values, host: Host, job: int) -> RunSpec:
    """The run of a configuration whose shares are settled, on `host`, as number `job` of its sweep."""
    strategy, engine = strategy_entry(values["strategy"]["name"]), engine_entry(values["engine"]["name"])
    memory, access = memory_spec(values), access_spec(values["access"])
    reason = one_round(values, strategy)
    rounds = 1 if reason else values["rounds_limit"]
    capacity, sample_every = records(memory.pages, access, values["vcpus"], values["faults_limit"], values["measure_s"], rounds)
    return spec_of(
        RunSpec,
        values,
        run_id=f"{values['sweep_id']}-{values['repeat']:03d}-{job:05d}",
        seed=seed_of(values),
        engine=values["engine"]["name"],
        engine_options=native_options(engine, values["engine"]),
        strategy=StrategySpec(strategy["name"], native_options(strategy, values["strategy"])),
        memory=memory,
        fault_mix=spec_of(FaultMixSpec, values["fault_mix"]),
        access=access,
        page_server=page_server_spec(values["page_server"]),
        placement=_placement(values, host, bool(strategy["userfaultfd"]) and values["page_server"]["name"] == "own"),
        cores=values["cores"] or len(host.cpus),
        sample_every=sample_every,
        record_capacity=capacity,
        one_round=reason,
        source=source_spec(values),
        swap=plan_swap(values),
        gated=values["guests"] > 1,
        disturb=DisturbSpec.of(values["disturb"]),
        prefetch=prefetch_spec(values["prefetch"]),
    )


def spec_of(kind: type[Spec], values: Values, **more: Any) -> Spec:
    """A spec of `kind` whose fields are the keys of the same name, and `more`; lists become tuples."""
    found = {one.name: values[one.name] for one in fields(kind) if one.name in values}  # type: ignore[arg-type]
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return kind(**{**found, **more})


def seed_of(values: Values) -> int:
    """The seed of a repeat's first guest; the other guests have the next ones."""
    seed: int = values["seed"] + values["repeat"] * values["guests"]
    return seed


def memory_spec(values: Values) -> MemorySpec:
    """The guest region of a configuration."""
    memory = values["memory"]
    kind = memory_type_of(strategy_entry(values["strategy"]["name"]), memory["type"])
    return spec_of(MemorySpec, memory, type=kind, region_bytes=memory["region_mib"] * MIB)


def access_spec(values: Values) -> AccessSpec:
    """The group `access`."""
    replays = values["order"] == "trace"
    return spec_of(
        AccessSpec,
        values,
        trace=pages_in(values["trace_file"]) if replays else (),
        recorded=trace_spec(values["trace_file"], values["speed"]) if replays else NO_TRACE,
        think_ns=round(values["think_us"] * 1000),
        hold_ns=round(values["hold_s"] * 1e9),
    )


def page_server_spec(values: Values) -> PageServerSpec:
    """The group `page_server`."""
    external = spec_of(ExternalSpec, values) if values["name"] == "external" else None
    return spec_of(PageServerSpec, values, inject=spec_of(InjectSpec, values), external=external)


def source_spec(values: Values) -> SourceSpec:
    """The group `source`: contents computed here are new in every repeat; those of a file, or of a source elsewhere, are
    what they are."""
    source = values["source"]
    return spec_of(SourceSpec, source, seed=seed_of(values) if source["name"] == "local" else values["seed"])


def prefetch_spec(values: Values) -> PrefetchSpec:
    """The group `prefetch`."""
    pages = pages_in(values["working_set_file"]) if values["name"] == "working_set" else ()
    return spec_of(PrefetchSpec, values, pages=pages)


def native_options(entry: Values, values: Values) -> dict[str, int]:
    """The options of `entry` (of a native registry) as the core takes them: a choice becomes its index."""
    return {
        option["name"]: option["choices"].index(values[option["name"]]) if option["choices"] else values[option["name"]]
        for option in entry["options"]
    }


def _placement(values: Values, host: Host, reads: bool) -> PlacementSpec:
    """One reader set a userfaultfd, those of the devices' own mappings among them, where a page server of ours `reads` them."""
    asked, cores = values["placement"], values["cores"] or len(host.cpus)
    per_vmm = values["uffds_per_vmm"] + DisturbSpec.of(values["disturb"]).second_mapping
    uffds = values["vcpus"] // values["vcpus_per_vmm"] * per_vmm if reads else 0
    readers = values["page_server"]["readers_per_uffd"] * uffds
    if asked["policy"] in OF_NODES:
        nodes = cpus_by_node(host.numa, host.cpus[:cores])
        return place_on_nodes(asked["policy"], nodes, asked["node"], values["vcpus"], readers)
    return place(
        asked["policy"],
        host.cpus[:cores],
        values["vcpus"],
        readers,
        asked["vcpu_cpus"],
        asked["reader_cpus"],
    )
