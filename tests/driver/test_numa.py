"""NUMA nodes: what the kernel shows, which CPUs a policy takes of them, and what is refused."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import DictConfig

from loadgen.config.validate import validate, validate_cells
from loadgen.doctor import numa
from loadgen.errors import ConfigError
from loadgen.host.numa import NumaNode, as_list, cpus_by_node, kernel_list, nodes_of, numa_nodes
from loadgen.host.probe import Host
from loadgen.plan.placement import other_node, place_on_nodes
from loadgen.plan.plan import plan_run
from loadgen.run.node_columns import node_columns
from workers.reports import ServerReport, VmmReport

Configure = Callable[..., DictConfig]
GIB = 1 << 30
TWO = (NumaNode(0, (0, 2), 4 * GIB, (10, 21)), NumaNode(1, (1, 3), 2 * GIB, (21, 10)))


@pytest.fixture
def two_nodes(host: Host) -> Host:
    return dataclasses.replace(host, numa=TWO)


def refusal(cfg: DictConfig, host: Host) -> str:
    with pytest.raises(ConfigError) as error:
        validate(cfg, host)
        validate_cells([cfg])
    return str(error.value)


def test_nodes_are_read_as_the_kernel_shows_them(tmp_path: Path) -> None:
    (tmp_path / "online").write_text("0,2\n")
    for number, cpus in ((0, "0-1,1024-1025"), (2, "")):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}" / "cpulist").write_text(f"{cpus}\n")
        (tmp_path / f"node{number}" / "meminfo").write_text(
            f"\nNode {number} MemTotal:       2048 kB\nNode {number} MemFree: 1 kB\n"
        )
        (tmp_path / f"node{number}" / "distance").write_text("10 20\n" if number == 0 else "20 10\n")
    assert numa_nodes(tmp_path) == (
        NumaNode(0, (0, 1, 1024, 1025), 2 << 20, (10, 20)),
        NumaNode(2, (), 2 << 20, (20, 10)),
    )
    assert numa_nodes(tmp_path / "nowhere") == ()


def test_each_cpu_of_this_process_is_on_one_of_this_hosts_nodes() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    assert sorted(cpu for on in cpus_by_node(numa_nodes(), allowed).values() for cpu in on) == allowed


@pytest.mark.parametrize("text", ["0", "0-3", "0-1,3,1024-1030", "8191"])
def test_a_list_of_numbers_reads_and_writes_as_the_kernel_has_it(text: str) -> None:
    assert as_list(kernel_list(text)) == text


def test_the_doctor_names_cpus_memory_and_distances(two_nodes: Host) -> None:
    assert list(numa(two_nodes)) == [
        ("NUMA node 0", "CPUs 0,2; 4.0 GiB; distance 10 to node 0, 21 to node 1"),
        ("NUMA node 1", "CPUs 1,3; 2.0 GiB; distance 21 to node 0, 10 to node 1"),
    ]


def test_the_policies_of_nodes_keep_vcpus_on_one_and_readers_on_it_or_on_the_next(configure: Configure, two_nodes: Host) -> None:
    def planned(*overrides: str) -> Any:
        placement = plan_run(configure("vcpus=3", *overrides), two_nodes).spec.placement
        return placement.vcpu_cpus, placement.reader_cpus

    assert planned("placement=same_node") == (((0,), (2,), (0,)), ((2,), (0,), (2,)))
    assert planned("placement=other_node") == (((0,), (2,), (0,)), ((1,), (3,), (1,)))
    assert planned("placement=other_node", "placement.node=1") == (((1,), (3,), (1,)), ((0,), (2,), (0,)))


def test_beyond_1024_cpus_a_plan_pins_each_thread_to_its_own(host: Host) -> None:
    cpus = tuple(range(4096))
    nodes = tuple(NumaNode(n, cpus[n * 2048 : (n + 1) * 2048], GIB, (10, 20) if n == 0 else (20, 10)) for n in (0, 1))
    by_node = cpus_by_node(nodes, cpus)
    placed = place_on_nodes("other_node", by_node, 1, 2048, 3)
    assert placed.vcpu_cpus[-1] == (4095,) and placed.reader_cpus == ((0,), (1,), (2,))
    assert placed.exclusive
    assert nodes_of(nodes, (5, 3000)) == [0, 1]
    assert other_node({0: (), 3: (), 9: ()}, 9) == 0


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (
            ["placement=same_node", "placement.node=2"],
            "placement.node=2 has none of the 4 CPUs that may be used: use a node that has",
        ),
        (["placement=other_node", "cores=1"], "needs CPUs of two NUMA nodes, and the 1 CPUs that may be used are all of node 0"),
        (["memory.numa=node:7"], "memory.numa=node:7, and this host has no memory on that node: use node:0, node:1"),
        (["memory.numa=nearest"], "memory.numa=nearest is unknown: use default, local, interleave or node:N"),
        (["memory.numa=node:"], "memory.numa=node: is unknown: use default, local, interleave or node:N"),
        (["placement.node=1"], "placement.node=1 is read only with placement=same_node or placement=other_node"),
    ],
)
def test_a_node_that_is_not_there_is_refused_with_those_that_are(
    configure: Configure, two_nodes: Host, overrides: list[str], text: str
) -> None:
    assert text in refusal(configure(*overrides), two_nodes)


def test_a_host_without_nodes_takes_the_policies_of_one(configure: Configure, host: Host) -> None:
    without = dataclasses.replace(host, numa=())
    validate(configure("placement=same_node"), without)
    assert "needs CPUs of two NUMA nodes" in refusal(configure("placement=other_node"), without)
    assert "use default" in refusal(configure("memory.numa=node:0"), without)


def test_a_run_row_says_where_pages_and_threads_were(two_nodes: Host, host: Host) -> None:
    def seat(on: Host) -> Any:
        return SimpleNamespace(node=SimpleNamespace(host=on))

    vmms = [VmmReport({}, [{"cpus": [0]}], page_nodes=[5]), VmmReport({}, [{"cpus": [2, 3]}], page_nodes=[1, 7])]
    served = ServerReport({}, [{"role": "reader", "cpus": [1]}, {"role": "ring", "cpus": [0]}], [])
    assert node_columns([seat(two_nodes)], [served], [vmms]) == {
        "page_nodes": [6, 7],
        "vcpu_nodes": [0, 1],
        "reader_nodes": [1],
    }
    assert set(node_columns([seat(dataclasses.replace(host, numa=()))], [served], [vmms]).values()) == {None}
