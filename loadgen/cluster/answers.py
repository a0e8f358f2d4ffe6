"""Waiting for the answers of actors: a process that is gone, stopped or stalled ends the wait, and is named.

No wait is bounded by a guess at how long a step takes. While answers are missing the actors are asked, beside what they do, for a
sign that they run: one that gives none within the watchdog's time is frozen, and when none of them uses CPU time or storage for
as long, the step is stalled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from loadgen.cluster.actors import aside
from workers.reports import ProcessUsage

LOOK_S = 0.5
GRACE_S = 2.0
"""Beyond the watchdog's time: the VMM processes' own watchdogs have better reasons, and end the run first."""
START_LIMIT_S = 60.0
"""For an actor whose process has not started yet."""
LIMIT_WITHOUT_WATCHDOG_S = 300.0
BLAMED_FROM_S = 1.5
"""An actor that gave no sign for so long is the cause of what another one reports."""
IDLE_CPU_SHARE = 0.02
"""An actor that waits uses less of a CPU: Ray's own threads take up to 0.008."""

Call = tuple[Any, Any]
"""An actor's handle, and the reference of what it was asked for."""


class Loss(Exception):
    """A process of a run is lost. `status` is that of a run that lost it."""

    status = "crashed"

    def __init__(self, actor: Any, reason: str) -> None:
        super().__init__(reason)
        self.actor, self.reason = actor, reason


class Died(Loss):
    """The process is gone."""


class Frozen(Loss):
    """The process is there and does not run."""

    status = "stuck"


class Stalled(Loss):
    """The process answers, and what it was asked for makes no progress."""

    status = "stuck"


def asked(actors: Iterable[Any], method: str, *arguments: Any) -> list[Call]:
    """Ask each of the actors for the same."""
    return [(actor, getattr(actor, method).remote(*arguments)) for actor in actors]


def asked_aside(actors: Iterable[Any], method: str, *arguments: Any) -> list[Call]:
    """Ask each of the actors for the same, beside what it does."""
    return [(actor, aside(getattr(actor, method)).remote(*arguments)) for actor in actors]


class Answers:
    """Waits for answers during one run, whose watchdog takes `watchdog_s` (0: it is off).

    `limit_s`: for how long nothing may happen.
    """

    def __init__(self, watchdog_s: float) -> None:
        self.limit_s = watchdog_s + GRACE_S if watchdog_s > 0 else LIMIT_WITHOUT_WATCHDOG_S
        self._signs: dict[Any, tuple[Any, float]] = {}
        self._usages: dict[Any, ProcessUsage] = {}

    def get(self, step: str, calls: Sequence[Call], *, beside: Sequence[Call] = ()) -> list[Any]:
        """The answers, in the calls' order; the calls `beside` may go on, and must not fail meanwhile. Raises Loss, and what a
        call raised."""
        values: dict[Any, Any] = {}
        missing = {reference for _, reference in calls}
        waiting = {reference: actor for actor, reference in (*calls, *beside)}
        stall = _Stall()
        while missing:
            answered, _ = ray.wait(list(waiting), num_returns=1 if beside else len(waiting), timeout=LOOK_S)
            for reference in answered:
                values[reference] = self._answer(waiting.pop(reference), reference, waiting)
            missing.difference_update(answered)
            if missing and not answered:
                actors = list(dict.fromkeys(waiting.values()))
                self.check(actors, f"in step {step}")
                self._raise_when_stalled(stall, step, actors)
        return [values[reference] for _, reference in calls]

    def check(self, actors: Iterable[Any], when: str) -> None:
        """Ask actors for signs of life, once each until it answers. Raises Frozen for one that has given none for too long."""
        for actor in actors:
            silent_s = self._silent_s(actor)
            if silent_s > (self.limit_s if actor.pid() is not None else max(self.limit_s, START_LIMIT_S)):
                raise Frozen(actor, _frozen(actor, silent_s, when))

    def forget(self, actor: Any) -> None:
        """Another process has taken the place of this actor's."""
        self._signs.pop(actor, None)
        self._usages.pop(actor, None)

    def _answer(self, actor: Any, reference: Any, waiting: dict[Any, Any]) -> Any:
        try:
            return ray.get(reference)
        except RayActorError as error:
            raise died(actor, error) from error
        except RayTaskError:
            self._raise_the_cause(waiting)
            raise

    def _raise_the_cause(self, waiting: dict[Any, Any]) -> None:
        """An actor fails when its peer is gone or frozen: then that peer is what is reported."""
        ended, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=LOOK_S) if waiting else ([], [])
        for reference in ended:
            try:
                ray.get(reference)
            except RayActorError as error:
                raise died(waiting[reference], error) from error
            except RayError:
                continue
        for actor in dict.fromkeys(waiting.values()):
            silent_s = self._silent_s(actor)
            if silent_s > BLAMED_FROM_S and actor.pid() is not None:
                raise Frozen(actor, _frozen(actor, silent_s, "while another process waited for it"))

    def _silent_s(self, actor: Any) -> float:
        """For how long no sign has come."""
        if actor not in self._signs:
            self._signs[actor] = (aside(actor.usage).remote(), monotonic())
            return 0.0
        reference, since = self._signs[actor]
        if not ray.wait([reference], timeout=0)[0]:
            return monotonic() - since
        del self._signs[actor]
        try:
            self._usages[actor] = ray.get(reference)
        except RayError:  # it is gone: its answer is missing too
            self._usages.pop(actor, None)
        return 0.0

    def _raise_when_stalled(self, stall: _Stall, step: str, actors: Sequence[Any]) -> None:
        if all(actor in self._usages for actor in actors):
            idle_s = stall.idle_s({actor: self._usages[actor] for actor in actors})
            if idle_s > self.limit_s:
                raise Stalled(actors[0], f"{_process(actors[0])} made no progress in step {step} for {idle_s:.0f} s")


class _Stall:
    """For how long actors together have used no CPU time and no storage."""

    def __init__(self) -> None:
        self._before: dict[Any, ProcessUsage] = {}
        self._since = monotonic()

    def idle_s(self, now: dict[Any, ProcessUsage]) -> float:
        passed_s = monotonic() - self._since
        if self._before.keys() != now.keys() or any(_worked(self._before[one], now[one], passed_s) for one in now):
            self._before, self._since = dict(now), monotonic()
            return 0.0
        return passed_s


def _worked(before: ProcessUsage, now: ProcessUsage, passed_s: float) -> bool:
    used_s = now.cpu_s - before.cpu_s
    read = (now.read_bytes, now.major_faults) != (before.read_bytes, before.major_faults)
    return read or used_s > LOOK_S * IDLE_CPU_SHARE + IDLE_CPU_SHARE * passed_s


def died(actor: Any, error: RayActorError) -> Died:
    """The loss that this error of Ray's means."""
    return Died(actor, f"{actor.name} died: {first_line(error)}")


def first_line(error: BaseException | None) -> str:
    """An error in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _frozen(actor: Any, silent_s: float, when: str) -> str:
    pid = actor.pid()
    state = actor.node.state_of(pid) if pid is not None else ""
    return f"{_process(actor)} did not answer for {silent_s:.0f} s {when}" + (f": it is {state}" if state else "")


def _process(actor: Any) -> str:
    pid = actor.pid()
    return f"{actor.name} (pid {pid})" if pid is not None else f"{actor.name} (not started)"
