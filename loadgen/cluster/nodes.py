"""The hosts a session may use: this one, or every node of a Ray cluster, each with somebody on it who answers for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from loadgen.cluster.actors import actor_class
from loadgen.host.cgroups import Pressure, pressure
from loadgen.host.interference import Snapshot, snapshot
from loadgen.host.probe import Host, package_version, probe
from loadgen.host.processes import end_actor, state_of
from workers.actor import Actor
from workers.host_lock import HostLock

FIRST_ANSWER_S = 60.0
"""For an agent whose process has not started yet."""
ANSWER_S = 15.0
SOON_S = 5.0


class Node(Protocol):
    """A host as the driver sees it. `name` tells it from the others; `id` is Ray's, empty before Ray has started; `address` is
    what other hosts reach it by."""

    name: str
    id: str
    address: str
    host: Host
    is_here: bool
    """Whether it is the driver's own host."""

    def gone(self) -> bool:
        """Whether it is known to be lost, without waiting for it."""

    def take(self) -> bool:
        """Whether this driver is now the only one that measures there."""

    def give(self) -> None:
        """Others may measure there; idempotent."""

    def look(self) -> Snapshot:
        """What has been used there so far."""

    def state_of(self, pid: int) -> str:
        """What keeps a process there from running, in words; empty when nothing does."""

    def end(self, pid: int) -> None:
        """Kill an actor's process there, should it be alive."""

    def pressure(self) -> Pressure:
        """What limits have done to the actors there so far."""


class Here:
    """The host of the driver itself."""

    is_here = True

    def __init__(self) -> None:
        self.host = probe()
        self.name, self.id, self.address = self.host.name, "", "127.0.0.1"
        self._lock = HostLock()
        self._root = os.getpid()

    def join(self, node_id: str) -> None:
        """The driver is itself a worker of this node of Ray's: its parent is what the actors' processes descend from."""
        self.id, self._root = node_id, os.getppid()

    def gone(self) -> bool:
        """As `Node` says: the driver is there."""
        return False

    def take(self) -> bool:
        """As `Node` says."""
        return self._lock.take()

    def give(self) -> None:
        """As `Node` says."""
        self._lock.give()

    def state_of(self, pid: int) -> str:
        """As `Node` says."""
        return state_of(pid)

    def end(self, pid: int) -> None:
        """As `Node` says."""
        end_actor(pid)

    def pressure(self) -> Pressure:
        """As `Node` says."""
        return pressure()

    def look(self) -> Snapshot:
        """Of the process tree that the driver, Ray's processes and the actors are in."""
        return snapshot(self._root)


class Agent(Actor):
    """Answers for the node it runs on, and holds its host for as long as the driver lives. A plain class; the driver makes an
    actor of it."""

    def __init__(self, deadman_s: float = 0.0) -> None:
        super().__init__(deadman_s)
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

    def state_of(self, pid: int) -> str:
        """As `Node` says."""
        return state_of(pid)

    def end(self, pid: int) -> None:
        """As `Node` says."""
        end_actor(pid)

    def pressure(self) -> Pressure:
        """As `Node` says."""
        return pressure()

    def look(self) -> Snapshot:
        """Of the process tree of this node's raylet, which is an actor's parent."""
        return snapshot(os.getppid())


class RayNode:
    """A node of a Ray cluster, through its agent, which ends itself without a sign of life for `deadman_s`."""

    is_here = False

    def __init__(self, entry: dict[str, Any], deadman_s: float) -> None:
        self.id, self.address = entry["NodeID"], entry["NodeManagerAddress"]
        self.name: str = entry["NodeManagerHostname"]
        self._deadman_s = deadman_s
        self.agent = self._send()
        self._asked = self.agent.about.remote()
        self.host: Host
        self.version: str | None = None

    def probe(self) -> None:
        """Wait for what the agent says. Raises RayError and GetTimeoutError."""
        self.host, self.version = ray.get(self._asked, timeout=FIRST_ANSWER_S)

    def alive(self) -> bool:
        """Whether somebody answers there; an agent that heard nothing of a driver that was stopped for a while is succeeded."""
        if not self._answers():
            self.agent = self._send()
            return self._answers()
        return True

    def gone(self) -> bool:
        """As `Node` says; whatever Ray has found out by now."""
        entries: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        return not any(one["NodeID"] == self.id and one["Alive"] for one in entries)

    def take(self) -> bool:
        """As `Node` says. At a node that is gone there is nothing to wait for: the run will find it so, and fail."""
        try:
            return bool(ray.get(self.agent.take.remote(), timeout=ANSWER_S))
        except RayError:
            return True

    def give(self) -> None:
        """As `Node` says; a node that is gone has given it already."""
        with suppress(RayError):
            ray.get(self.agent.give.remote(), timeout=ANSWER_S)

    def look(self) -> Snapshot:
        """As `Node` says."""
        seen: Snapshot = ray.get(self.agent.look.remote(), timeout=ANSWER_S)
        return seen

    def state_of(self, pid: int) -> str:
        """As `Node` says; empty when the node does not answer."""
        with suppress(RayError):
            return str(ray.get(self.agent.state_of.remote(pid), timeout=SOON_S))
        return ""

    def end(self, pid: int) -> None:
        """As `Node` says; waits for no answer."""
        with suppress(RayError):
            self.agent.end.remote(pid)

    def pressure(self) -> Pressure:
        """As `Node` says; nothing when the node does not answer."""
        with suppress(RayError):
            seen: Pressure = ray.get(self.agent.pressure.remote(), timeout=SOON_S)
            return seen
        return Pressure(0.0, {})

    def close(self) -> None:
        """End the agent."""
        with suppress(RayError):
            ray.kill(self.agent)

    def _send(self) -> Any:
        there = NodeAffinitySchedulingStrategy(self.id, soft=False)
        return actor_class(Agent).options(scheduling_strategy=there).remote(self._deadman_s)

    def _answers(self) -> bool:
        try:
            ray.get(self.agent.__ray_ready__.remote(), timeout=FIRST_ANSWER_S)
        except RayError:
            return False
        return True


def tell_apart(nodes: Sequence[RayNode]) -> None:
    """Give nodes whose hosts have one name (several on one machine) names of their own."""
    names = [node.name for node in nodes]
    for node in nodes:
        if names.count(node.name) > 1:
            node.name = f"{node.name}/{node.id[:8]}"
