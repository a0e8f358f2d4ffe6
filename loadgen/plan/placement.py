"""Which CPUs each thread of a run may use. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from workers.spec import PlacementSpec

POLICIES = ("none", "spread", "pack", "explicit")


def place(
    policy: str,
    cpus: Sequence[int],
    vcpus: int,
    readers: int,
    vcpu_cpus: Sequence[int] = (),
    reader_cpus: Sequence[int] = (),
) -> PlacementSpec:
    """One set of CPUs a vCPU and one a reader, out of `cpus`.

    `none`: all of them for every thread. `spread`: one each in turn, readers after the vCPUs. `pack`: reader r beside
    vCPU r. `explicit`: the lists given, one CPU a thread, used in turn where there are more threads.
    """
    if policy == "none":
        everything = tuple(cpus)
        return PlacementSpec(policy, (everything,) * vcpus, (everything,) * readers)
    if policy == "explicit":
        return PlacementSpec(policy, _in_turn(vcpu_cpus, 0, vcpus), _in_turn(reader_cpus or vcpu_cpus, 0, readers))
    first_reader = vcpus if policy == "spread" else 0
    return PlacementSpec(policy, _in_turn(cpus, 0, vcpus), _in_turn(cpus, first_reader, readers))


def _in_turn(cpus: Sequence[int], first: int, count: int) -> tuple[tuple[int, ...], ...]:
    return tuple((cpus[(first + index) % len(cpus)],) for index in range(count))
