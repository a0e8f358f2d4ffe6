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

BAR = 0.95
VCPUS = (1, 2, 8)
PAGES = 16_384
AT_ONCE = 64
PAGES_AT_ONCE = 1024
WAIT_S = 10.0

Rate = Callable[[], float]


def serve(asked: Asked) -> Iterator[Line]:
    """One VMM with 1, 2 and 8 vCPUs, and 64 VMMs at once."""
    pages = PAGES // 8 if asked.quick else PAGES
    memory = snapshot(asked.build / "guest.mem", pages)
    with both(asked.build, memory) as (ours, theirs):
        for vcpus in VCPUS:
            options = ("--vcpus", str(vcpus), "--order", "random", "--no-check")
            rates = interleave(lambda o=options: rate(ours, memory, o), lambda o=options: rate(theirs, memory, o), asked.pairs)
            yield compared(f"{vcpus} vCPUs, loadgen-serve / C handler", *rates)
    small = snapshot(asked.build / "small.mem", PAGES_AT_ONCE)
    with both(asked.build, small) as (ours, theirs):
        pairs = max(3, asked.pairs // 5)
        rates = interleave(lambda: rate_at_once(ours, small), lambda: rate_at_once(theirs, small), pairs)
        yield compared(f"{AT_ONCE} VMMs at once, loadgen-serve / C handler", *rates)


def compared(measure: str, ours: list[float], theirs: list[float]) -> Line:
    """Met where the interval of the ratio reaches the bar."""
    ratio = interval(ratios(ours, theirs))
    note = f"{interval(ours).median / 1000:.1f} against {interval(theirs).median / 1000:.1f} kpages/s, {len(ours)} pairs"
    return Line("serve", measure, str(ratio), f">= {BAR}", ratio.reaches(BAR), note)


@contextmanager
def both(folder: Path, memory: Path) -> Iterator[tuple[Path, Path]]:
    """The sockets of ours and of the handler in C, which both serve any number of VMMs."""
    theirs = folder / "handler.sock"
    theirs.unlink(missing_ok=True)
    handler = subprocess.Popen([peer("handler"), str(theirs), str(memory), "--serves-many"])
    try:
        until = time.monotonic() + WAIT_S
        while not theirs.exists():
            if handler.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the C handler does not listen")
            time.sleep(0.01)
        with serving(folder, memory) as server:
            assert server.process.stdout is not None
            threading.Thread(target=server.process.stdout.read, daemon=True).start()  # a full pipe would hold it up
            yield server.socket, theirs
    finally:
        handler.kill()
        handler.wait()


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
