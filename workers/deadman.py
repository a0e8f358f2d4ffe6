"""A deadman timer: an actor that gets no heartbeat from its driver for too long ends its own process.

When a network failure cuts a host off from the driver, Ray treats the actors there as lost and cannot end them: they would keep
the guest's memory and run their vCPUs without end. The timer's thread sleeps until the next heartbeat is due.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

STATUS = 71
"""The exit status of a process that ended itself."""


def end_process() -> None:
    """End this process with all its threads, those asleep in the kernel too, without any output."""
    os._exit(STATUS)


class Deadman:
    """Calls `end` after `limit_s` seconds without a `sign`, counted from the construction on; 0: never."""

    def __init__(self, limit_s: float, end: Callable[[], None] = end_process) -> None:
        self._limit_s, self._end = limit_s, end
        self._signed = time.monotonic()
        self._over = threading.Event()
        if limit_s > 0:
            threading.Thread(target=self._watch, name="deadman", daemon=True).start()

    def sign(self) -> None:
        """A heartbeat of the driver."""
        self._signed = time.monotonic()

    def stop(self) -> None:
        """Stop the timer; idempotent."""
        self._over.set()

    def _watch(self) -> None:
        while (left := self._signed + self._limit_s - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        self._end()
