"""`loadgen-serve` beside a fault handler in C, each serving the same VMM in C: pages a second as the VMM's vCPUs see them."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.lines import Asked, Case, Line
from tests.bench.pairs import interleave, interval, ratios
from tests.peers.build import peer
from tests.serve.serving import finished, serving, snapshot, vmm
from tests.wait import wait_for

BAR = 0.95
VCPUS = (1, 2, 8)
PAGES = 16_384
AT_ONCE = 64
PAGES_AT_ONCE = 1024
WAIT_S = 10.0

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
        yield compared(f"{vcpus} vCPUs, loadgen-serve / C handler", *rates)

    def one_of_theirs() -> float:
        with handler(folder, small) as theirs:
            return rate_at_once(theirs, small)

    with ours(folder, small) as mine:
        rates = interleave(lambda: rate_at_once(mine, small), one_of_theirs, max(3, asked.pairs // 5))
    yield compared(f"{AT_ONCE} VMMs at once, loadgen-serve / C handler", *rates)


def compared(measure: str, mine: list[float], theirs: list[float]) -> Line:
    """Met where the interval of the ratio reaches the bar."""
    ratio = interval(ratios(mine, theirs))
    note = f"{interval(mine).median / 1000:.1f} against {interval(theirs).median / 1000:.1f} kpages/s, {len(mine)} pairs"
    return Line("serve", measure, str(ratio), f">= {BAR}", ratio.reaches(BAR), note)


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
def ours(folder: Path, memory: Path) -> Iterator[Path]:
    """The socket of a loadgen-serve."""
    with serving(folder, memory) as server:
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


CASES: dict[str, Case] = {"serve": serve}
