"""Rounds of a run of several guests: they begin together, and the driver decides for all of them whether there is another one.

The rounds of a run of one guest are its own affair: its VMM processes agree on them in shared memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError

from loadgen.cluster.answers import Answers, Loss, asked
from loadgen.run.measuring import STOP_GRACE_S
from loadgen.run.recovery import Guests
from loadgen.run.start_barrier import open_gate
from workers.spec import RunSpec

ASK_S = 1.0
"""How long a page server waits before it answers that the round goes on."""


class CommonRounds:
    """A thread that opens the gate of each round but the first; ends with the context. Does nothing for a run of one guest, or
    of one round."""

    def __init__(self, guests: Guests, spec: RunSpec, answers: Answers) -> None:
        self._guests, self._spec, self._answers = guests, spec, answers
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rounds", daemon=True)

    def __enter__(self) -> Self:
        if self._spec.gated and self._spec.most_rounds > 1:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._conduct()
        except (Loss, RayError) as error:
            self._end(f"between rounds: {error}")

    def _conduct(self) -> None:
        finished = 1
        while (measured := self._measured(finished)) is not None:
            another = finished < self._spec.most_rounds and max(measured) < self._spec.measure_s
            self._decide(finished, another)
            if not another:
                return
            seats = self._guests.seats
            self._answers.get("start", asked([seat.server for seat in seats], "armed", self._answers.limit_s))
            open_gate(seats, self._answers)
            finished += 1

    def _measured(self, finished: int) -> list[float] | None:
        """Seconds that each guest has measured in its `finished` rounds, infinite where no further round has room; None when the
        run ends before."""
        while not self._over.is_set():
            found: list[float] = self._each(lambda server: server.round_finished.remote(finished, ASK_S))
            if not found:
                return None
            if all(found):
                return found
        return None

    def _decide(self, finished: int, another: bool) -> None:
        self._each(lambda server: server.decide_round.remote(finished, another))

    def _each(self, call: Callable[[Any], Any]) -> list[Any]:
        """The answer of each page server that is left."""
        asked = [call(seat.server) for seat in self._guests.seats]
        answers: list[Any] = ray.get(asked, timeout=ASK_S + self._spec.watchdog_s + STOP_GRACE_S)
        return answers

    def _end(self, reason: str) -> None:
        for seat in self._guests.seats:
            seat.server.abort.remote(reason)
