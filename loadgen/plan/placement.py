"""Which CPUs each thread of a run may use. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workers.spec import PlacementSpec

POLICIES = ("none", "spread", "pack", "explicit", "same_node", "other_node")
OF_NODES = ("same_node", "other_node")
"""Policies that put vCPUs on the CPUs of one NUMA node: `place_on_nodes`."""


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


def place_on_nodes(policy: str, nodes: Mapping[int, Sequence[int]], node: int, vcpus: int, readers: int) -> PlacementSpec:
    """The same by NUMA node; `nodes`: CPUs by node. vCPUs take the CPUs of `node` in turn. Readers: `same_node`: go on there
    where the vCPUs ended; `other_node`: take those of the next node."""
    if policy == "same_node":
        cpus = nodes[node]
        return PlacementSpec(policy, _in_turn(cpus, 0, vcpus), _in_turn(cpus, vcpus, readers))
    return PlacementSpec(policy, _in_turn(nodes[node], 0, vcpus), _in_turn(nodes[other_node(nodes, node)], 0, readers))


def other_node(nodes: Mapping[int, Sequence[int]], node: int) -> int:
    """The next node with CPUs after `node`; the first after the last."""
    others = sorted(number for number in nodes if number != node)
    return next((number for number in others if number > node), others[0])


def _in_turn(cpus: Sequence[int], first: int, count: int) -> tuple[tuple[int, ...], ...]:
    return tuple((cpus[(first + index) % len(cpus)],) for index in range(count))
