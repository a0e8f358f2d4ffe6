"""The driver's session without Ray: each actor is a process of its own that runs the real class, and can be killed or stopped.

`LocalRay` stands for what the driver uses of Ray: calls that are under way are futures, `get` and `wait` wait for them.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for_futures
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError

from loadgen.cluster.answers import Answers
from loadgen.cluster.nodes import Here
from loadgen.cluster.session import Seat
from loadgen.host.changes import HostChanges
from loadgen.plan.plan import PlannedRun
from tests.actor_process import STARTED, answer
from workers.page_server import PageServer
from workers.source import Source
from workers.vcpu import Vcpu

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.actor_process", "workers.page_server", "workers.vcpu", "workers.source"])


class Method:
    """`actor.method.remote(...)`."""

    def __init__(self, actor: LocalActor, name: str) -> None:
        self._actor, self._name = actor, name

    def options(self, concurrency_group: str) -> Method:
        """Every call has a thread of its own."""
        assert concurrency_group == "aside"
        return self

    def remote(self, *arguments: Any) -> Future[Any]:
        """The call begins."""
        return self._actor.call(self._name, arguments)


class LocalActor:
    """As `loadgen.cluster.actors.Handle`, of a process that this one has started."""

    def __init__(self, name: str, node: Here, kind: type, folder: str) -> None:
        self.name, self.node = name, node
        self._kind, self._folder = kind, folder
        self._begin()

    def _begin(self) -> None:
        self._calls, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=answer, args=(self._kind, theirs, self._folder), daemon=True)
        self._process.start()
        theirs.close()
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[str, Future[Any]]] = {}
        self._lock, self._dead, self._started = threading.Lock(), False, False
        arguments = (self._calls, self._waiting)
        self._receiving = threading.Thread(target=self._receive, args=arguments, daemon=True)
        self._receiving.start()

    def __getattr__(self, name: str) -> Method:
        if name.startswith("_"):
            raise AttributeError(name)
        return Method(self, name)

    def call(self, method: str, arguments: Sequence[Any]) -> Future[Any]:
        """Ask the process for it. One that is gone answers with ActorDiedError."""
        future: Future[Any] = Future()
        with self._lock:
            if self._dead:
                future.set_exception(ActorDiedError())
                return future
            number = next(self._numbers)
            self._waiting[number] = (method, future)
            with suppress(OSError):  # it dies: `_receive` sees that too
                self._calls.send((number, method, arguments))
        return future

    def is_in(self, method: str) -> bool:
        """Whether a call of this method is under way."""
        with self._lock:
            return any(name == method for name, _ in self._waiting.values())

    def _receive(self, calls: Connection, waiting: dict[int, tuple[str, Future[Any]]]) -> None:
        with suppress(EOFError, OSError):
            self._started = calls.recv() == STARTED
            while True:
                number, value, error = calls.recv()
                with self._lock:
                    method, future = waiting.pop(number)
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(RayTaskError(method, repr(error), error))
        with self._lock:
            self._dead = True
            left = list(waiting.values())
            waiting.clear()
        for _, future in left:
            future.set_exception(ActorDiedError())

    def pid(self) -> int | None:
        """Its process; None before it has started."""
        return self._process.pid if self._started else None

    def stopped_here(self) -> bool:
        """Whether the kernel does not run it now."""
        pid = self.pid()
        return pid is not None and bool(self.node.state_of(pid))

    def kill(self) -> None:
        """End it, and wait until it is gone. Idempotent."""
        if self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._receiving.join()
        self._calls.close()

    def replace(self) -> None:
        """Start another one in its place."""
        self.kill()
        self._begin()


class LocalRay:
    """Inside, the driver's `ray.get` and `ray.wait` are those of local actors."""

    def __enter__(self) -> None:
        self._before = ray.get, ray.wait
        ray.get, ray.wait = get, wait

    def __exit__(self, *_: object) -> None:
        ray.get, ray.wait = self._before


def get(references: Any, timeout: float | None = None) -> Any:
    """Values, or what was raised; GetTimeoutError when some are missing after the time."""
    if isinstance(references, Future):
        return get([references], timeout)[0]
    if wait_for_futures(references, timeout).not_done:
        raise GetTimeoutError("Get timed out: some object(s) not ready.")
    return [reference.result() for reference in references]


def wait(
    references: Sequence[Future[Any]], num_returns: int = 1, timeout: float | None = None
) -> tuple[list[Future[Any]], list[Future[Any]]]:
    """Those that are done, at most `num_returns`, and the others."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = [reference for reference in references if not reference.done()]
        remaining = None if deadline is None else deadline - time.monotonic()
        if len(references) - len(left) >= num_returns or (remaining is not None and remaining <= 0) or not left:
            break
        wait_for_futures(left, remaining, FIRST_COMPLETED)
    done = [reference for reference in references if reference.done()][:num_returns]
    return done, [reference for reference in references if reference not in done]


class LocalSession:
    """The actors of as many guests as runs have asked for so far, all on this host; `folder` is their temporary one."""

    def __init__(self, folder: str) -> None:
        self.node = Here()
        self.nodes: Sequence[Here] = (self.node,)
        self.known = True
        self.host_changes = HostChanges()
        self.servers: list[LocalActor] = []
        self.vmms: list[list[LocalActor]] = []
        self.sources: dict[int, LocalActor] = {}
        self._folder = folder

    @property
    def actors(self) -> list[LocalActor]:
        """Those that were started."""
        return [*self.servers, *itertools.chain(*self.vmms), *self.sources.values()]

    def nodes_of(self, planned: PlannedRun) -> list[Here]:
        """As `Session`."""
        return [self.node for _ in planned.guests]

    def seats(self, planned: PlannedRun) -> list[Any]:
        """As `Session`."""
        for guest in range(len(self.servers), len(planned.guests)):
            self.servers.append(self._start("the page server", guest, PageServer))
            self.vmms.append([])
        for one in planned.guests:
            mine = self.vmms[one.number]
            mine += [self._start(f"VMM process {i}", one.number, Vcpu) for i in range(len(mine), one.spec.vmms)]
        return [
            Seat(one.number, one.spec, self.node, self.servers[one.number], list(self.vmms[one.number][: one.spec.vmms]))
            for one in planned.guests
        ]

    def _start(self, name: str, guest: int, kind: type) -> LocalActor:
        return LocalActor(f"{name} of guest {guest}" if guest else name, self.node, kind, self._folder)

    def source(self, seat: Seat) -> tuple[LocalActor, str]:
        """As `Session`."""
        if seat.number not in self.sources:
            self.sources[seat.number] = self._start("the source", seat.number, Source)
        return self.sources[seat.number], self.node.address

    def begin_run(self, waited_s: float) -> float:
        """As `Session`."""
        return time.perf_counter()

    def end_run(self) -> float:
        """As `Session`."""
        return time.perf_counter()

    def idle_actors(self, seats: list[Seat]) -> int:
        """As `Session`."""
        return len(list(itertools.chain(*self.vmms))) - sum(len(seat.vcpus) for seat in seats)

    def idle_cpu_share(self, answers: Answers) -> float:
        """Processes that wait at a pipe use nothing."""
        return 0.0

    def renew(self) -> None:
        """As `Session`."""
        for actor in self.actors:
            actor.kill()
        self.servers, self.vmms, self.sources = [], [], {}

    def close(self) -> None:
        """End the actors; what was changed of the host is as before."""
        self.renew()
        self.host_changes.close()
