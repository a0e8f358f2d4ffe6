"""The guests of a run over the hosts there are. Pure: Ray then holds each guest there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from loadgen.host.probe import Host
from loadgen.plan.plan import PlannedGuest, PlannedRun, plan_run
from loadgen.plan.values import Config
from workers.spec import PlacementSpec, RunSpec, SourceSpec

SHARED = ("none", "explicit")
"""Placement policies under which every guest of a host has the same CPUs."""


def plan_guests(cfg: Config, hosts: Sequence[Host], job: int = 0) -> PlannedRun:
    """The run of a validated configuration with each of its guests planned for the host it will be on: guest g on host g modulo
    their number. Memory is that of the host with the most guests."""
    planned = plan_run(cfg, hosts[0], job)
    specs = [planned.spec, *(plan_run(cfg, host, job).spec for host in hosts[1 : cfg["guests"]])]
    guests = [_guest(specs[number % len(hosts)], number, hosts) for number in range(cfg["guests"])]
    return dataclasses.replace(
        planned,
        spec=guests[0].spec,
        guests=tuple(guests),
        memory_bytes=planned.memory_bytes * most_on_a_host(cfg["guests"], len(hosts)),
    )


def most_on_a_host(guests: int, hosts: int) -> int:
    """Guests on the host that has the most of them."""
    return -(-guests // hosts)


def exclusive(guests: Sequence[PlannedGuest]) -> bool:
    """Whether every vCPU and reader of these guests of one host has a CPU of its own."""
    cpus = [one for guest in guests for one in (*guest.spec.placement.vcpu_cpus, *guest.spec.placement.reader_cpus)]
    return all(guest.spec.placement.exclusive for guest in guests) and len(set(cpus)) == len(cpus)


def _guest(spec: RunSpec, number: int, hosts: Sequence[Host]) -> PlannedGuest:
    host = number % len(hosts)
    before_it = number // len(hosts)
    spec = dataclasses.replace(
        spec,
        seed=spec.seed + number,
        source=_source(spec, number),
        placement=_further(spec.placement, hosts[host].cpus[: spec.cores], before_it),
    )
    return PlannedGuest(number, host, spec)


def _source(spec: RunSpec, number: int) -> SourceSpec:
    """A source given by `source.address` or `source.file` holds one memory for all guests, and so does a handler that they share;
    any other holds one a guest."""
    source, external = spec.source, spec.page_server.external
    one_memory = source.file or source.address or (external is not None and external.shared)
    return source if one_memory else dataclasses.replace(source, seed=source.seed + number)


def _further(placement: PlacementSpec, cpus: Sequence[int], before: int) -> PlacementSpec:
    """A guest's threads go on where those of the `before` guests of its host ended."""
    if placement.policy in SHARED or not before:
        return placement
    step = before * len({*placement.vcpu_cpus, *placement.reader_cpus})

    def moved(threads: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        return tuple((cpus[(cpus.index(one) + step) % len(cpus)],) for (one,) in threads)

    return PlacementSpec(placement.policy, moved(placement.vcpu_cpus), moved(placement.reader_cpus))
