"""The guest region, its fault mix, its VMM processes, and whether this host has room for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.host.limits import Needs, shortages
from loadgen.host.probe import Host
from loadgen.plan.plan import MIB, PlannedRun, plan_run
from workers.registry import strategy_entry
from workers.spec import FAULT_KINDS

SHARES_TOLERANCE = 1e-6


def problems(values: dict[str, Any], host: Host) -> Iterator[str]:
    """What does not fit together."""
    memory, mix = values["memory"], values["fault_mix"]
    region_bytes, page_bytes = memory["region_mib"] * MIB, memory["page_bytes"]
    allowed = {"hugetlb": (2 * MIB,)}.get(memory["type"], (4096,))
    if page_bytes not in allowed:
        yield f"memory.page_bytes={page_bytes} does not go with {memory['type']} memory: use {allowed[0]}"
    elif region_bytes % page_bytes:
        yield (
            f"memory.region_mib={memory['region_mib']} is not a multiple of the page size {page_bytes}: "
            f"use a multiple of {max(page_bytes // MIB, 1)} MiB"
        )
    elif region_bytes // page_bytes < values["vcpus"]:
        yield (
            f"the region has {region_bytes // page_bytes} pages for vcpus={values['vcpus']}: "
            "use a larger memory.region_mib or fewer vcpus"
        )
    elif region_bytes // page_bytes < values["uffds_per_vmm"]:
        yield (
            f"the region has {region_bytes // page_bytes} pages for uffds_per_vmm={values['uffds_per_vmm']}: "
            "use a larger memory.region_mib or fewer userfaultfds"
        )
    total = sum(mix[kind] for kind in FAULT_KINDS)
    if abs(total - 1) > SHARES_TOLERANCE:
        yield f"the shares of fault_mix sum to {total:g}, not 1: change {', '.join('fault_mix.' + k for k in FAULT_KINDS)}"
    if values["vcpus"] % values["vcpus_per_vmm"]:
        yield (
            f"vcpus={values['vcpus']} cannot be divided over VMM processes of vcpus_per_vmm={values['vcpus_per_vmm']}: "
            "make vcpus a multiple of it"
        )
    if memory["type"] == "anon" and values["vcpus_per_vmm"] != values["vcpus"]:
        yield (
            "anonymous memory has one mapping, so one VMM process holds all vCPUs: "
            f"set vcpus_per_vmm={values['vcpus']}, or use memory=shmem"
        )
    if values["cores"] > len(host.cpus):
        yield f"cores={values['cores']}, but this process may use {len(host.cpus)} CPUs: use at most {len(host.cpus)}"


def room(values: dict[str, Any], host: Host, guests: int) -> Iterator[str]:
    """What this host has too little of for so many guests; after every other rule, for it plans the run."""
    planned = plan_run(values, host)
    needed = planned.memory_bytes * guests
    yield from shortages(_needs(planned, guests), host.limits)
    if needed > host.free_bytes:
        yield (
            f"the run needs {needed / MIB:.0f} MiB and {host.free_bytes / MIB:.0f} MiB are free: "
            "use a smaller memory.region_mib or faults_limit, fewer guests, or fewer VMM processes (a larger vcpus_per_vmm)"
        )
    if values["memory"]["type"] == "hugetlb":
        pages = values["memory"]["region_mib"] // 2 * guests
        if pages > host.huge_pages_free:
            yield (
                f"memory=hugetlb needs {pages} free huge pages of 2 MiB and there are {host.huge_pages_free}: "
                f"`sysctl vm.nr_hugepages={pages}`"
            )


def _needs(planned: PlannedRun, guests: int) -> Needs:
    """What so many guests of the run need of a host."""
    spec = planned.spec
    uffds = spec.userfaultfds_per_vmm * spec.vmms if strategy_entry(spec.strategy.name)["userfaultfd"] else 0
    threads = spec.vcpus + 2 * len(spec.placement.reader_cpus) + spec.source.connections
    return Needs(planned.memory_bytes * guests, (spec.vmms + 1) * guests, threads * guests, uffds * guests, spec.uffds_per_vmm)
