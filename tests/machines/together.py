"""Several machines at a time, as many as keep the CPUs busy: an emulator that has one thread uses one CPU."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

from tests.machines.boot import Outcome
from tests.machines.machine import Machine


def together(machines: Sequence[Machine], cpus: int, boot: Callable[[Machine], Outcome]) -> Iterator[Outcome]:
    """What `boot` makes of each, as it comes. Emulators of one thread come first, side by side; then those of more."""
    for threads in sorted({machine.threads for machine in machines}):
        alike = [machine for machine in machines if machine.threads == threads]
        yield from _side_by_side(alike, max(1, cpus // threads), boot)


def _side_by_side(machines: Sequence[Machine], at_once: int, boot: Callable[[Machine], Outcome]) -> Iterator[Outcome]:
    waiting: queue.SimpleQueue[Machine] = queue.SimpleQueue()
    ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    for machine in machines:
        waiting.put(machine)

    def work() -> None:
        try:
            while True:
                ended.put(boot(waiting.get_nowait()))
        except queue.Empty:
            return

    for _ in range(at_once):
        threading.Thread(target=work, daemon=True).start()  # a daemon: Ctrl-C waits for no machine
    for _ in machines:
        yield ended.get()
