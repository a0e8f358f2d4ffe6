"""A deadman timer: an actor that hears nothing of its driver for too long ends its own process.

Where a network parts a host from the driver, Ray gives the actors there up for lost and cannot end them: they would hold the
guest's memory, and the vCPUs would go on, for ever. The timer's thread sleeps until the sign of life that is missing was due.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

STATUS = 71
"""The exit status of a process that ended itself."""


def end_process() -> None:
    """End this process with all its threads, those asleep in the kernel too, and without a word to anybody."""
    os._exit(STATUS)


class Deadman:
    """Calls `end` when there was no `sign` for `limit_s` seconds, the first time counted from here; 0: never."""

    def __init__(self, limit_s: float, end: Callable[[], None] = end_process) -> None:
        self._limit_s, self._end = limit_s, end
        self._signed = time.monotonic()
        self._over = threading.Event()
        if limit_s > 0:
            threading.Thread(target=self._watch, name="deadman", daemon=True).start()

    def sign(self) -> None:
        """The driver lives."""
        self._signed = time.monotonic()

    def stop(self) -> None:
        """Nobody needs to sign any more; idempotent."""
        self._over.set()

    def _watch(self) -> None:
        while (left := self._signed + self._limit_s - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        self._end()
