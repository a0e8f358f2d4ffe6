"""Our side of a pair across processes: the actors' own classes, each in a process of its own, without Ray."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from tests import specs
from tests.bench.ours import Measured, Shape, measured, options_of
from workers.spec import (
    PlacementSpec,
    RunSpec,
    StrategySpec,
)


def _answer(pipe: Connection, module: str, name: str) -> None:
    """Child: build the actor, then answer each (method, arguments) with (result, None) or (None, error text)."""
    actor = getattr(importlib.import_module(module), name)()
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((getattr(actor, method)(*arguments), None))
        except Exception as error:
            pipe.send((None, f"{name}.{method}: {type(error).__name__}: {error}"))


class Process:
    """One actor class in a spawned process; `ask` sends a call, `answer` waits for its result."""

    def __init__(self, module: str, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, module, name), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, method: str, *arguments: Any) -> None:
        """Send a call without waiting."""
        self._pipe.send((method, arguments))

    def answer(self) -> Any:
        """The result of the oldest call not yet answered. Raises RuntimeError with the actor's error."""
        result, error = self._pipe.recv()
        if error is not None:
            raise RuntimeError(error)
        return result

    def call(self, method: str, *arguments: Any) -> Any:
        """`ask` and `answer`."""
        self.ask(method, *arguments)
        return self.answer()

    def end(self) -> None:
        """Close the pipe and wait for the process."""
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()


def spec_of(shape: Shape, vcpus_per_vmm: int) -> RunSpec:
    """The run the actors are asked for: as the shape says, each VMM process of `vcpus_per_vmm` vCPUs."""
    readers = shape.readers * (shape.vcpus // vcpus_per_vmm)
    return specs.run(
        run_id="bench",
        sweep_id="bench",
        repeat=0,
        seed=shape.seed,
        engine="thread",
        strategy=StrategySpec(shape.strategy, options_of(shape.strategy)),
        memory=specs.memory("shmem", shape.region_bytes, 4096),
        fault_mix=specs.fault_mix(**{shape.kind: 1.0}),
        access=specs.access(order=shape.order, passes=shape.passes),
        page_server=specs.page_server(readers_per_uffd=shape.readers),
        placement=PlacementSpec(
            "explicit",
            tuple(tuple(cpus) for cpus in shape.cpus_of(shape.vcpu_cpus, shape.vcpus)),
            tuple(tuple(cpus) for cpus in shape.cpus_of(shape.reader_cpus, readers)),
        ),
        vcpus=shape.vcpus,
        vcpus_per_vmm=vcpus_per_vmm,
        uffds_per_vmm=1,
        cores=0,
        verify=shape.verify,
        watchdog_s=30.0,
        sample_every=1,
        record_capacity=shape.record_capacity,
    )


class Rig:
    """One page server process and `vmms` VMM processes, started once, that run any number of shapes."""

    def __init__(self, vmms: int) -> None:
        self._server = Process("workers.page_server", "PageServer")
        self._vmms = [Process("workers.vcpu", "Vcpu") for _ in range(vmms)]

    def _all(self, method: str, arguments: Callable[[int], Sequence[Any]] = lambda _: ()) -> list[Any]:
        for vmm, process in enumerate(self._vmms):
            process.ask(method, *arguments(vmm))
        return [process.answer() for process in self._vmms]

    def run(self, shape: Shape) -> Measured:
        """One run in the driver's order of calls. Raises RuntimeError with what went wrong."""
        return self.measure(spec_of(shape, shape.vcpus // len(self._vmms)))

    def measure(self, spec: RunSpec) -> Measured:
        """The same of a specification."""
        address, _ = self._server.call("open", spec)
        self._all("open", lambda vmm: (spec, vmm, address))
        self._server.call("serve")
        self._all("prepare")
        self._all("run")
        self._server.call("finish")
        reports = self._all("finish")
        counters: dict[str, int] = {}
        for report in reports:
            for name, count in report.counters.items():
                counters[name] = counters.get(name, 0) + count
        self._all("close")
        self._server.call("close")
        return measured([vcpu for report in reports for vcpu in report.vcpus], counters)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in (*self._vmms, self._server):
            process.end()
