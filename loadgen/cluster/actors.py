"""Handles of actors as the driver uses them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import ray
from ray.exceptions import RayError

ASIDE = "aside"


def actor_class(kind: type) -> Any:
    """An actor of this class: what is called `aside` has threads of its own, the rest is done in the order it was asked for."""
    remote: Any = ray.remote  # its stub has no concurrency groups
    return remote(num_cpus=0, concurrency_groups={ASIDE: 2})(kind)


def aside(method: Any) -> Any:
    """An actor's method, to be called while another one is under way there."""
    return method.options(concurrency_group=ASIDE)


class Place(Protocol):
    """The node of an actor, as far as its process is concerned; see `loadgen.cluster.nodes.Node`."""

    name: str
    is_here: bool

    def state_of(self, pid: int) -> str:
        """What keeps a process there from running, in words; empty when nothing does."""

    def end(self, pid: int) -> None:
        """Kill an actor's process there, should it be alive."""


class Handle:
    """An actor of a guest: its methods, its `name` in messages, the `node` it runs on. `replace` starts another one in its
    place."""

    def __init__(self, name: str, node: Place, start: Callable[[], Any]) -> None:
        self.name, self.node = name, node
        self._start = start
        self._begin()

    def _begin(self) -> None:
        self._actor = self._start()
        self._asked_pid = aside(self._actor.process_id).remote()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._actor, name)

    def pid(self) -> int | None:
        """Its process, on its node; None before it has started."""
        answered, _ = ray.wait([self._asked_pid], timeout=0)
        with suppress(RayError):
            return int(ray.get(answered[0])) if answered else None
        return None

    def stopped_here(self) -> bool:
        """Whether it is on the driver's own host and the kernel does not run it now."""
        pid = self.pid() if self.node.is_here else None
        return pid is not None and bool(self.node.state_of(pid))

    def kill(self) -> None:
        """End it; nothing when it has ended. Ray asks the process to end, which one that is stopped cannot do: the kernel ends
        it."""
        pid = self.pid()
        with suppress(Exception):
            ray.kill(self._actor)
        if pid is not None:
            with suppress(Exception):
                self.node.end(pid)

    def replace(self) -> None:
        """Start another one in its place. The old one is ended, should it be alive."""
        self.kill()
        self._begin()
