"""The published door beside what it is compared with, in pages a second as vCPUs see them: `loadgen-serve` and a fault handler
in C, each serving the same VMM in C; and `loadgen-serve` and the private page server, each serving our vCPUs."""

from __future__ import annotations

import dataclasses
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import specs
from tests.bench.lines import Asked, Case, Line
from tests.bench.pairs import interleave, interval, ratios
from tests.bench.rig import Rig
from tests.peers.build import peer
from tests.serve.serving import PAGE, finished, serving, snapshot, vmm
from tests.wait import wait_for
from workers import _native
from workers.spec import ExternalSpec, PlacementSpec, RunSpec

BAR = 0.95
VCPUS = (1, 2, 8)
PAGES = 16_384
AT_ONCE = 64
PAGES_AT_ONCE = 1024
WAIT_S = 10.0
SEED = 3

Rate = Callable[[], float]


def serve(asked: Asked) -> Iterator[Line]:
    """One VMM with 1, 2 and 8 vCPUs, and 64 VMMs at once. The handler in C has room for 80 VMMs in its life, so there is a
    new one for each measure."""
    folder = asked.build
    memory = snapshot(folder / "guest.mem", PAGES // 8 if asked.quick else PAGES)
    small = snapshot(folder / "small.mem", PAGES_AT_ONCE)
    for vcpus in VCPUS:
        options = ("--vcpus", str(vcpus), "--order", "random", "--no-check")
        with ours(folder, memory) as mine, handler(folder, memory) as theirs:
            rates = interleave(
                lambda m=mine, o=options: rate(m, memory, o), lambda t=theirs, o=options: rate(t, memory, o), asked.pairs
            )
        yield compared("serve", f"{vcpus} vCPUs, loadgen-serve / C handler", *rates)

    def one_of_theirs() -> float:
        with handler(folder, small) as theirs:
            return rate_at_once(theirs, small)

    with ours(folder, small) as mine:
        rates = interleave(lambda: rate_at_once(mine, small), one_of_theirs, max(3, asked.pairs // 5))
    yield compared("serve", f"{AT_ONCE} VMMs at once, loadgen-serve / C handler", *rates)


def doors(asked: Asked) -> Iterator[Line]:
    """Our vCPUs served from one snapshot: by a loadgen-serve through its socket, and by the private page server. Two readers each
    where there are more vCPUs than one."""
    memory = asked.build / "doors.mem"
    pages = PAGES // 8 if asked.quick else PAGES
    _native.write_snapshot(str(memory), pages * PAGE, PAGE, SEED)
    for kind, vcpus in (*(("anon", vcpus) for vcpus in VCPUS), ("shmem", 2)):
        readers = min(vcpus, 2)
        private = guest(kind, pages, vcpus, memory, readers)
        with ours(asked.build, memory, "--readers", str(readers)) as socket, Rig(1) as rig:
            published = dataclasses.replace(private, page_server=specs.page_server(external=door(socket)))
            rates = interleave(
                lambda r=rig, spec=published: r.measure(spec).pages_per_s,
                lambda r=rig, spec=private: r.measure(spec).pages_per_s,
                asked.pairs,
            )
        yield compared("doors", f"{kind}, {vcpus} vCPUs, published / private door", *rates)


def door(socket: Path) -> ExternalSpec:
    """The handler that listens there."""
    return ExternalSpec(socket=str(socket), command="", shared=False, message="current", vmms=1)


def guest(kind: str, pages: int, vcpus: int, memory: Path, readers: int) -> RunSpec:
    """One VMM process of so many vCPUs, which touch each page of a snapshot once, at random."""
    return specs.run(
        seed=SEED,
        memory=specs.memory(kind, pages * PAGE, PAGE),
        fault_mix=specs.fault_mix(absent=1.0),
        access=specs.access(order="permutation"),
        page_server=specs.page_server(readers_per_uffd=readers),
        placement=PlacementSpec("none", ((),) * vcpus, ((),) * readers),
        source=specs.source(name="file", file=str(memory), seed=SEED),
        vcpus=vcpus,
        vcpus_per_vmm=vcpus,
        record_capacity=pages,
        sample_every=1,
    )


def compared(case: str, measure: str, mine: list[float], theirs: list[float]) -> Line:
    """Met where the interval of the ratio reaches the bar."""
    ratio = interval(ratios(mine, theirs))
    note = f"{interval(mine).median / 1000:.1f} against {interval(theirs).median / 1000:.1f} kpages/s, {len(mine)} pairs"
    return Line(case, measure, str(ratio), f">= {BAR}", ratio.reaches(BAR), note)


@contextmanager
def handler(folder: Path, memory: Path) -> Iterator[Path]:
    """The socket of a new handler in C."""
    socket = folder / "handler.sock"
    socket.unlink(missing_ok=True)
    process = subprocess.Popen([peer("handler"), str(socket), str(memory), "--serves-many"], stdout=subprocess.DEVNULL)
    try:
        wait_for(socket.exists, "the C handler to listen", WAIT_S, 0.01)
        yield socket
    finally:
        process.kill()
        process.wait()


@contextmanager
def ours(folder: Path, memory: Path, *options: str) -> Iterator[Path]:
    """The socket of a loadgen-serve."""
    with serving(folder, memory, *options) as server:
        assert server.process.stdout is not None
        threading.Thread(target=server.process.stdout.read, daemon=True).start()  # a full pipe would hold it up
        yield server.socket


def rate(socket: Path, memory: Path, options: tuple[str, ...]) -> float:
    """Pages a second of one VMM."""
    said = finished(vmm(socket, memory, *options))
    return float(said["pages"]) / float(said["seconds"])


def rate_at_once(socket: Path, memory: Path) -> float:
    """Pages a second of many VMMs together, from the start of the first process to the end of the last."""
    began = time.perf_counter()
    started = [vmm(socket, memory, "--no-check") for _ in range(AT_ONCE)]
    return sum(finished(one)["pages"] for one in started) / (time.perf_counter() - began)


CASES: dict[str, Case] = {"serve": serve, "doors": doors}
