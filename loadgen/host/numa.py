"""The NUMA nodes of this host, as the kernel shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NODES = Path("/sys/devices/system/node")


@dataclass(frozen=True)
class NumaNode:
    """A node: its CPUs, its memory in bytes, and its distance to each node, itself first in their order."""

    number: int
    cpus: tuple[int, ...]
    memory_bytes: int
    distances: tuple[int, ...]


def numa_nodes(root: Path = NODES) -> tuple[NumaNode, ...]:
    """Every node that is online, ascending; one kernel without NUMA has none."""
    online = root / "online"
    if not online.exists():
        return ()
    return tuple(_node(root / f"node{number}", number) for number in kernel_list(online.read_text()))


def _node(folder: Path, number: int) -> NumaNode:
    total = next(line for line in (folder / "meminfo").read_text().splitlines() if "MemTotal:" in line)
    return NumaNode(
        number,
        kernel_list((folder / "cpulist").read_text()),
        int(total.split()[3]) * 1024,
        tuple(map(int, (folder / "distance").read_text().split())),
    )


def kernel_list(text: str) -> tuple[int, ...]:
    """The numbers of a list as the kernel writes it: `0-3,8`."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def as_list(numbers: Iterable[int]) -> str:
    """The same numbers the way the kernel writes them."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def cpus_by_node(nodes: Sequence[NumaNode], cpus: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """Those of `cpus` on each node that has any. A host without nodes is one, number 0."""
    allowed = tuple(cpus)
    if not nodes:
        return {0: allowed}
    found = {node.number: tuple(cpu for cpu in allowed if cpu in set(node.cpus)) for node in nodes}
    return {number: on for number, on in found.items() if on}


def nodes_of(nodes: Sequence[NumaNode], cpus: Iterable[int]) -> list[int]:
    """The nodes that `cpus` belong to, each once."""
    of: Mapping[int, int] = {cpu: node.number for node in nodes for cpu in node.cpus}
    return sorted({of.get(cpu, 0) for cpu in cpus})
