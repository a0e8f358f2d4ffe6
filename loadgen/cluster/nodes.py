"""The hosts a session may use: this one, or every node of a Ray cluster, each with an agent that answers for it."""

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
    """A host as the driver sees it. `name` is different for each; `id` is Ray's, empty before Ray has started; `address` is
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


class OnHost:
    """What a node answers on its own host. `root`: the process that driver, Ray's processes and actors descend from."""

    def __init__(self, root: int) -> None:
        self._lock = HostLock()
        self._root = root

    def take(self) -> bool:
        """As in `Node`."""
        return self._lock.take()

    def give(self) -> None:
        """As in `Node`."""
        self._lock.give()

    def state_of(self, pid: int) -> str:
        """As in `Node`."""
        return state_of(pid)

    def end(self, pid: int) -> None:
        """As in `Node`."""
        end_actor(pid)

    def pressure(self) -> Pressure:
        """As in `Node`."""
        return pressure()

    def look(self) -> Snapshot:
        """As in `Node`."""
        return snapshot(self._root)


class Here(OnHost):
    """The host of the driver itself."""

    is_here = True

    def __init__(self) -> None:
        super().__init__(os.getpid())
        self.host = probe()
        self.name, self.id, self.address = self.host.name, "", "127.0.0.1"

    def join(self, node_id: str) -> None:
        """The driver is itself a worker of this node of Ray's: its parent is what the actors' processes descend from."""
        self.id, self._root = node_id, os.getppid()

    def gone(self) -> bool:
        """As in `Node`: the driver is there."""
        return False


class Agent(OnHost, Actor):
    """Answers for the node it runs on, and holds its host for as long as the driver lives. A plain class; the driver makes an
    actor of it, whose parent is the node's raylet."""

    def __init__(self, deadman_s: float = 0.0) -> None:
        OnHost.__init__(self, os.getppid())
        Actor.__init__(self, deadman_s)

    def about(self) -> tuple[Host, str | None]:
        """The host, and the version of this package on it."""
        return probe(), package_version()


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
        """Wait for the agent's answer. Raises RayError and GetTimeoutError."""
        self.host, self.version = ray.get(self._asked, timeout=FIRST_ANSWER_S)

    def alive(self) -> bool:
        """Whether an agent answers there. One that ended because the driver was stopped for a while is replaced."""
        if not self._answers():
            self.agent = self._send()
            return self._answers()
        return True

    def gone(self) -> bool:
        """As in `Node`; whatever Ray has found out by now."""
        entries: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        return not any(one["NodeID"] == self.id and one["Alive"] for one in entries)

    def take(self) -> bool:
        """As in `Node`. At a node that is gone there is nothing to wait for: the run will find it so, and fail."""
        try:
            return bool(ray.get(self.agent.take.remote(), timeout=ANSWER_S))
        except RayError:
            return True

    def give(self) -> None:
        """As in `Node`; a node that is gone has given it already."""
        with suppress(RayError):
            ray.get(self.agent.give.remote(), timeout=ANSWER_S)

    def look(self) -> Snapshot:
        """As in `Node`."""
        seen: Snapshot = ray.get(self.agent.look.remote(), timeout=ANSWER_S)
        return seen

    def state_of(self, pid: int) -> str:
        """As in `Node`; empty when the node does not answer."""
        with suppress(RayError):
            return str(ray.get(self.agent.state_of.remote(pid), timeout=SOON_S))
        return ""

    def end(self, pid: int) -> None:
        """As in `Node`; waits for no answer."""
        with suppress(RayError):
            self.agent.end.remote(pid)

    def pressure(self) -> Pressure:
        """As in `Node`; nothing when the node does not answer."""
        with suppress(RayError):
            seen: Pressure = ray.get(self.agent.pressure.remote(), timeout=SOON_S)
            return seen
        return Pressure()

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
