"""The driver's sign of life to its actors, whose deadman timers end them when it stays away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from loadgen.cluster.actors import aside

SIGNS = 4
"""How often it is given in the time after which an actor without one ends itself."""
FASTEST_S = 0.5


class Heartbeat:
    """A thread that calls every actor of `actors()` and waits for no answer. `deadman_s` 0: no actor waits for a sign."""

    def __init__(self, deadman_s: float, actors: Callable[[], Iterable[Any]]) -> None:
        self._every_s = max(deadman_s / SIGNS, FASTEST_S)
        self._actors = actors
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        if deadman_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """No more signs; idempotent."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._every_s):
            for actor in self._actors():
                with suppress(Exception):  # one that is gone, or is being ended, needs none
                    aside(actor.sign_of_life).remote()
