"""Our side of a pair, all in this process: one guest, one page server, one VMM process's worth of vCPUs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workers import _native

PAGE_BYTES = 4096


@dataclass(frozen=True)
class Shape:
    """One measured phase. Every page has the one `kind`; CPUs are dealt to threads round and round; `readers` is per
    userfaultfd; `records` keeps a record of each fault."""

    strategy: str
    pages: int
    vcpus: int = 1
    readers: int = 1
    vcpu_cpus: tuple[int, ...] = ()
    reader_cpus: tuple[int, ...] = ()
    kind: str = "minor"
    passes: int = 1
    verify: str = "word"
    records: bool = True
    order: str = "permutation"
    seed: int = 1
    uffds: int = 1
    engine: str = "thread"
    engine_options: Mapping[str, int] = field(default_factory=dict)
    memory: str = "shmem"
    read_share: float = 1.0
    wait: str = "poll"
    fault_around_pages: int = 1
    options: Mapping[str, int] = field(default_factory=dict)

    @property
    def region_bytes(self) -> int:
        """Bytes of the region."""
        return self.pages * PAGE_BYTES

    @property
    def all_options(self) -> dict[str, int]:
        """Every option of the strategy: `options` over the defaults."""
        return options_of(self.strategy, self.fault_around_pages) | dict(self.options)

    @property
    def record_capacity(self) -> int:
        """Records for each vCPU: all its faults, or none."""
        return self.pages // self.vcpus + 1 if self.records else 0

    def cpus_of(self, cpus: Sequence[int], threads: int) -> list[list[int]]:
        """One list a thread, dealt from `cpus`; empty lists when there are none."""
        return [[cpus[i % len(cpus)]] if cpus else [] for i in range(threads)]


@dataclass(frozen=True)
class Measured:
    """What a measured phase gave: distinct pages resolved (swapped ones: populated), accesses, seconds from the common start to
    the last end."""

    pages: int
    accesses: int
    seconds: float
    counters: dict[str, int] = field(default_factory=dict)
    vcpus: Sequence[dict[str, Any]] = ()

    @property
    def pages_per_s(self) -> float:
        """Pages resolved a second."""
        return self.pages / self.seconds

    @property
    def ns_per_access(self) -> float:
        """Nanoseconds an access."""
        return self.seconds * 1e9 / self.accesses


def options_of(strategy: str, fault_around_pages: int = 1) -> dict[str, int]:
    """Every option of a strategy at its default but for the one named. Raises ValueError for a strategy the registry does not
    know."""
    for entry in _native.strategies():
        if entry["name"] == strategy:
            options = {option["name"]: option["default"] for option in entry["options"]}
            return options | {"fault_around_pages": fault_around_pages} if "fault_around_pages" in options else options
    raise ValueError(f"no strategy {strategy} in the registry")


def measured(vcpus: Sequence[dict[str, Any]], counters: dict[str, int]) -> Measured:
    """The rate's parts from the vCPUs' own reports. Raises RuntimeError on a wrong word or a stuck vCPU."""
    for vcpu in vcpus:
        if vcpu["wrong_words"]:
            raise RuntimeError(f"vCPU {vcpu['vcpu']} read a wrong word: {vcpu['first_wrong']}")
        if vcpu["stuck"]:
            raise RuntimeError(f"vCPU {vcpu['vcpu']} is stuck: {vcpu['stuck']}")
    start = min(vcpu["start_ns"] for vcpu in vcpus)
    end = max(vcpu["end_ns"] for vcpu in vcpus)
    return Measured(
        pages=sum(vcpu["pages_resolved"] for vcpu in vcpus) + counters.get("populate_ok", 0),
        accesses=sum(vcpu["accesses"] for vcpu in vcpus),
        seconds=(end - start) * 1e-9,
        counters=counters,
        vcpus=vcpus,
    )


def in_process(shape: Shape) -> Measured:
    """One fresh guest from fill to measured phase. Raises RuntimeError when it did not do what was asked."""
    guest = _native.Guest(guest_config(shape))
    guest.fill(np.full(shape.pages, _native.KINDS.index(shape.kind), dtype=np.uint8))
    server = _native.PageServer(guest, server_config(shape))
    vmm = _native.Vmm(guest, vmm_config(shape))
    for fd, regions in vmm.userfaultfds():
        server.add_userfaultfd(fd, regions, vmm=0, record_fd=vmm.record_fd, faults_fd=vmm.faults_fd)
    with Serving(server.serve, server.stop):
        if unprepared := vmm.prepare()["unprepared"]:
            raise RuntimeError(f"{unprepared} pages are not {shape.kind}")
        vmm.run()
    vmm.finish()
    if guest.stop_reason():
        raise RuntimeError(guest.stop_reason())
    return measured(vmm.vcpus(), vmm.counters())


def guest_config(shape: Shape) -> dict[str, Any]:
    """The region."""
    return {
        "memory_type": shape.memory,
        "region_bytes": shape.region_bytes,
        "page_bytes": PAGE_BYTES,
        "transparent_huge_pages": False,
        "vcpus": shape.vcpus,
        "vcpus_per_vmm": shape.vcpus,
        "seed": shape.seed,
        "rings": min(shape.vcpus, shape.readers),
        "request_pages": shape.fault_around_pages,
    }


def server_config(shape: Shape) -> dict[str, Any]:
    """The page server."""
    return {
        "readers": shape.readers,
        "wait": shape.wait,
        "events_per_read": 16,
        "delay_us": 0.0,
        "delay_exponential": False,
        "seed": shape.seed,
        "fault_around_pages": shape.fault_around_pages,
        "reader_cpus": shape.cpus_of(shape.reader_cpus, shape.readers),
    }


def vmm_config(shape: Shape) -> dict[str, Any]:
    """The VMM process."""
    return {
        "vmm": 0,
        "first_vcpu": 0,
        "vcpus": shape.vcpus,
        "uffds": shape.uffds,
        "strategy": shape.strategy,
        "options": shape.all_options,
        "engine": shape.engine,
        "engine_options": dict(shape.engine_options),
        "verify": shape.verify,
        "watchdog_s": 30.0,
        "sample_every": 1,
        "record_capacity": shape.record_capacity,
        "vcpu_cpus": shape.cpus_of(shape.vcpu_cpus, shape.vcpus),
        "access": {
            "order": shape.order,
            "overlap": False,
            "read_share": shape.read_share,
            "passes": shape.passes,
            "accesses": 0,
            "stride_pages": 1,
            "zipf_exponent": 1.1,
            "trace": [],
            "think_ns": 0,
            "rate_per_s": 0.0,
        },
        "seed": shape.seed,
    }


class Serving:
    """While inside, `serve` runs on its own thread; leaving calls `stop`, joins, and raises what `serve` raised."""

    def __init__(self, serve: Callable[[], None], stop: Callable[[], None]) -> None:
        self._serve = serve
        self._stop = stop
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._thread.join()
        if self._error is not None:
            raise self._error
