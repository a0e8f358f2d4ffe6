"""On which CPUs threads are put."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.host.numa import cpus_by_node
from loadgen.host.probe import Host
from loadgen.plan.placement import OF_NODES


def problems(values: dict[str, Any], host: Host) -> Iterator[str]:
    """CPUs that are not given, or that this process may not use."""
    placement = values["placement"]
    named = [*placement["vcpu_cpus"], *placement["reader_cpus"]]
    if placement["policy"] == "explicit" and not placement["vcpu_cpus"]:
        yield "placement=explicit needs placement.vcpu_cpus, for example placement.vcpu_cpus=[0,1]"
    absent = sorted(set(named) - set(host.cpus))
    if absent:
        yield (
            f"placement names CPU {', '.join(map(str, absent))}, which this process may not use: "
            f"use some of {', '.join(map(str, host.cpus))}"
        )
    if placement["policy"] in OF_NODES and (values["cores"] or len(host.cpus)) <= len(host.cpus):
        yield from _nodes(placement, host, values["cores"] or len(host.cpus))
    yield from _numa(values["memory"]["numa"], host)


def _nodes(placement: dict[str, Any], host: Host, cores: int) -> Iterator[str]:
    policy, node = placement["policy"], placement["node"]
    nodes = cpus_by_node(host.numa, host.cpus[:cores])
    there = ", ".join(map(str, sorted(nodes)))
    if node not in nodes:
        yield f"placement.node={node} has none of the {cores} CPUs that may be used: use a node that has some ({there})"
    elif policy == "other_node" and len(nodes) < 2:
        yield (
            f"placement=other_node needs CPUs of two NUMA nodes, and the {cores} CPUs that may be used are all of node {there}: "
            "use placement=same_node, or more cores"
        )


def _numa(policy: str, host: Host) -> Iterator[str]:
    word, _, number = policy.partition(":")
    if policy not in ("default", "local", "interleave") and (word != "node" or not number.isdecimal()):
        yield f"memory.numa={policy} is unknown: use default, local, interleave or node:N"
    elif number and int(number) not in (with_memory := {node.number for node in host.numa if node.memory_bytes}):
        there = ", ".join(f"node:{node}" for node in sorted(with_memory)) or "default"
        yield f"memory.numa={policy}, and this host has no memory on that node: use {there}"
