"""The hosts a session may use: this one, or every node of a Ray cluster, each with somebody on it who answers for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from loadgen.host import Host, package_version, probe
from loadgen.self_watch import Snapshot, snapshot
from workers.host_lock import HostLock

ANSWER_S = 60.0


class Node(Protocol):
    """A host as the driver sees it. `name` tells it from the others; `id` is Ray's, empty before Ray has started; `address` is
    what other hosts reach it by."""

    name: str
    id: str
    address: str
    host: Host

    def take(self) -> bool:
        """Whether this driver is now the only one that measures there."""

    def give(self) -> None:
        """Others may measure there; idempotent."""

    def look(self) -> Snapshot:
        """What has been used there so far."""


class Here:
    """The host of the driver itself."""

    def __init__(self) -> None:
        self.host = probe()
        self.name, self.id, self.address = self.host.name, "", "127.0.0.1"
        self._lock = HostLock()
        self._root = os.getpid()

    def join(self, node_id: str) -> None:
        """The driver is itself a worker of this node of Ray's: its parent is what the actors' processes descend from."""
        self.id, self._root = node_id, os.getppid()

    def take(self) -> bool:
        """As `Node` says."""
        return self._lock.take()

    def give(self) -> None:
        """As `Node` says."""
        self._lock.give()

    def look(self) -> Snapshot:
        """Of the process tree that the driver, Ray's processes and the actors are in."""
        return snapshot(self._root)


class Agent:
    """Answers for the node it runs on. A plain class; the driver makes an actor of it."""

    def __init__(self) -> None:
        self._lock = HostLock()

    def about(self) -> tuple[Host, str | None]:
        """The host, and the version of this package on it."""
        return probe(), package_version()

    def take(self) -> bool:
        """As `Node` says."""
        return self._lock.take()

    def give(self) -> None:
        """As `Node` says."""
        self._lock.give()

    def look(self) -> Snapshot:
        """Of the process tree of this node's raylet, which is an actor's parent."""
        return snapshot(os.getppid())


class RayNode:
    """A node of a Ray cluster, through its agent."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.id, self.address = entry["NodeID"], entry["NodeManagerAddress"]
        self.name: str = entry["NodeManagerHostname"]
        here = NodeAffinitySchedulingStrategy(self.id, soft=False)
        agent: Any = ray.remote(Agent)
        self._agent = agent.options(num_cpus=0, scheduling_strategy=here, max_concurrency=2).remote()
        self._asked = self._agent.about.remote()
        self.host: Host
        self.version: str | None = None

    def probe(self) -> None:
        """Wait for what the agent says. Raises RayError and GetTimeoutError."""
        self.host, self.version = ray.get(self._asked, timeout=ANSWER_S)

    def alive(self) -> bool:
        """Whether the agent still answers."""
        try:
            ray.get(self._agent.__ray_ready__.remote(), timeout=ANSWER_S)
        except RayError:
            return False
        return True

    def take(self) -> bool:
        """As `Node` says."""
        return bool(ray.get(self._agent.take.remote(), timeout=ANSWER_S))

    def give(self) -> None:
        """As `Node` says; a node that is gone has given it already."""
        with suppress(RayError):
            ray.get(self._agent.give.remote(), timeout=ANSWER_S)

    def look(self) -> Snapshot:
        """As `Node` says."""
        seen: Snapshot = ray.get(self._agent.look.remote(), timeout=ANSWER_S)
        return seen

    def close(self) -> None:
        """End the agent."""
        with suppress(RayError):
            ray.kill(self._agent)


def tell_apart(nodes: Sequence[RayNode]) -> None:
    """Give nodes whose hosts have one name (several on one machine) names of their own."""
    names = [node.name for node in nodes]
    for node in nodes:
        if names.count(node.name) > 1:
            node.name = f"{node.name}/{node.id[:8]}"
