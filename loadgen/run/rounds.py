"""Rounds of a run of several guests: they begin together, and the driver decides for all of them whether there is another one.

The rounds of a run of one guest are its own affair: its VMM processes agree on them in shared memory.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import GetTimeoutError, RayError

from loadgen.cluster.answers import Answers, asked
from loadgen.cluster.session import Seat
from loadgen.run.measuring import STOP_GRACE_S
from loadgen.run.recovery import Guests, Tries
from loadgen.run.start_barrier import open_gate
from workers.spec import RunSpec

ASK_S = 1.0
"""How long a page server waits before it answers that the round goes on."""
ASK_AGAIN_S = 0.2
"""Between two calls to a page server that has died and may have been replaced."""


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
        except RayError as error:
            if not self._over.is_set():
                self._end(f"between rounds: {error}")

    def _conduct(self) -> None:
        finished = 1
        while (measured := self._measured(finished)) is not None:
            another = finished < self._spec.most_rounds and max(measured) < self._spec.measure_s
            self._decide(finished, another)
            if not another:
                return
            self._ask("armed", [(seat, (self._answers.limit_s,)) for seat in self._guests.seats])
            finished += 1
            open_gate(self._guests.seats, self._ask, finished)

    def _measured(self, finished: int) -> list[float] | None:
        """Seconds that each guest has measured in its `finished` rounds, infinite where no further round has room; None when the
        run ends before."""
        while not self._over.is_set():
            found = self._ask("round_finished", [(seat, (finished, ASK_S)) for seat in self._guests.seats])
            if not found:
                return None
            if all(found.values()):
                return list(found.values())
        return None

    def _decide(self, finished: int, another: bool) -> None:
        self._ask("decide_round", [(seat, (finished, another)) for seat in self._guests.seats])

    def _ask(self, method: str, given: Sequence[tuple[Seat, tuple[Any, ...]]]) -> dict[int, Any]:
        """As start_barrier.Ask. Raises RayError."""
        under_way = [(seat, arguments, asked([seat.server], method, *arguments)) for seat, arguments in given]
        found: dict[int, Any] = {}
        for seat, arguments, [(_, reference)] in under_way:
            found |= self._answer(seat, method, arguments, reference)
        return found

    def _answer(self, seat: Seat, method: str, arguments: tuple[Any, ...], reference: Any) -> dict[int, Any]:
        """A page server that died is replaced, or its guest given up, by the thread that measures: it is waited for."""
        tries = Tries(self._spec.watchdog_s)
        while True:
            try:
                # No signs of life are asked for, which costs CPU time: the other thread asks when the run stands still.
                return {seat.number: ray.get(reference, timeout=ASK_S + self._answers.limit_s + STOP_GRACE_S)}
            except GetTimeoutError:
                raise
            except RayError:
                if tries.over() or self._over.wait(ASK_AGAIN_S):
                    raise
                if seat.number not in (left.number for left in self._guests.seats):
                    return {}
                [(_, reference)] = asked([seat.server], method, *arguments)

    def _end(self, reason: str) -> None:
        for seat in self._guests.seats:
            seat.server.abort.remote(reason)
