"""What a run does when a process of it is lost while it is measured.

A lost VMM process takes its own vCPUs with it, the others of its guest are served on. Under `recover` a page server that died is
replaced by another one (failover), and so is one that dies over that, for the watchdog's time; without it the guest is lost. The
guests that are left run to their end, and are stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayError

from loadgen.cluster.answers import Answers, Call, Died, Frozen, Loss, asked, asked_aside, died
from loadgen.cluster.session import Seat
from loadgen.run.live_status import POLL_S, RunStatus
from results.derive.trust import replaced

LEAST_TRIES = 5
ALIVE_TIMEOUT_S = 10.0
SUSPECTED_FROM_S = 2.0
"""Processes are asked for signs of life once a vCPU or a page server stands still for so long: asking costs CPU."""

T = TypeVar("T")


class Guests:
    """The guests of a run while it is measured, and the calls to `run` of their VMM processes that are `pending`. `recoveries`:
    how often a page server was replaced."""

    def __init__(self, seats: Sequence[Seat], answers: Answers, *, recover: bool) -> None:
        self.recoveries = 0
        self.pending: list[Any] = []
        self._seats = list(seats)
        self._answers, self._recover = answers, recover
        self._owner: dict[Any, tuple[Seat, Any]] = {}
        self._gone: list[Any] = []
        self._suspicion = Suspicion()

    @property
    def seats(self) -> list[Seat]:
        """The guests that are left, each with its VMM processes that are left."""
        return [dataclasses.replace(seat, vcpus=self._left(seat)) for seat in self._seats]

    @property
    def vcpus(self) -> list[Any]:
        """The VMM processes that are left, of all guests."""
        return [vcpu for seat in self._seats for vcpu in self._left(seat)]

    def columns(self, distrust: str | None) -> dict[str, Any]:
        """Columns of the run's row; `distrust`: what the row is flagged for so far."""
        if not self.recoveries:
            return {"recoveries": 0, "distrust": distrust}
        doubt = replaced(self.recoveries)
        return {"recoveries": self.recoveries, "distrust": "; ".join(filter(None, (distrust, doubt))), "trusted": False}

    def run(self) -> list[Call]:
        """Start the VMM processes; the calls that are under way."""
        for seat in self._seats:
            self._owner |= {reference: (seat, vcpu) for vcpu, reference in asked(seat.vcpus, "run")}
        self.pending = list(self._owner)
        return [(vcpu, reference) for reference, (_, vcpu) in self._owner.items()]

    def wait(self) -> Loss | None:
        """Until a VMM process has ended, or a poll is due; the loss that ended it. Raises the loss when no guest is left."""
        ended, self.pending = ray.wait(self.pending, num_returns=1, timeout=POLL_S)
        for reference in ended:
            seat, vcpu = self._owner[reference]
            try:
                ray.get(reference)
            except RayActorError as error:
                return self._lose_vmm(seat, vcpu, died(vcpu, error))
        return None

    def polled(self, status: RunStatus, due: float) -> dict[str, Any] | Loss | None:
        """The status of the poll that was due at `due` (monotonic clock), or the loss that it found; None where it found a dead
        page server, which was replaced. Raises the loss when no guest is left."""
        try:
            return status.take(due)
        except RayActorError as error:
            dead = [seat for seat in self._seats if not alive(seat.server)]
            if not dead:
                raise
            losses = [self._lose_server(seat, died(seat.server, error), status) for seat in dead]
            return next(filter(None, losses), None)

    def stopped(self, now: dict[str, Any], status: RunStatus) -> Loss | None:
        """The frozen process that makes the run stand still, as the status `now` has it; it is killed. Raises the loss when no
        guest is left."""
        running = [self._owner[reference] for reference in self.pending]
        if not self._suspicion.raised(now, [*(vcpu for _, vcpu in running), *(seat.server for seat in self._seats)]):
            return None
        try:
            self._answers.check([vcpu for _, vcpu in running], "while it was measured")
            self._answers.check([seat.server for seat in self._seats], "while it was measured")
        except Frozen as frozen:
            for seat, vcpu in running:
                if vcpu is frozen.actor:
                    vcpu.kill()
                    return self._lose_vmm(seat, vcpu, frozen)
            [seat] = [seat for seat in self._seats if seat.server is frozen.actor]
            status.drop(seat.server)
            return self._lose_guest(seat, explained_by_vcpus(frozen, self._left(seat)))
        return None

    def ask(self, step: str, method: str) -> list[Any]:
        """What each guest's page server answers, or the one that replaces it when it dies over it. Raises Loss."""
        return [self._answered(seat, step, method) for seat in self._seats]

    def wait_armed(self, beside: Sequence[Call]) -> None:
        """Until the vCPUs of every guest are at their barriers; the calls `beside` go on. Raises Loss."""
        for seat in list(self._seats):
            self._answered(seat, "start", "armed", self._answers.limit_s, beside=beside)

    def ask_at_start(self, method: str, given: Sequence[tuple[Seat, tuple[Any, ...]]]) -> dict[int, Any]:
        """As start_barrier.Ask. Raises Loss."""
        own = {seat.number: seat for seat in self._seats}
        under_way = [(own[seat.number], arguments, asked([seat.server], method, *arguments)) for seat, arguments in given]
        return {
            seat.number: self._answered(seat, "start", method, *arguments, calls=calls) for seat, arguments, calls in under_way
        }

    def close(self) -> None:
        """The page servers free their guests, whose results are all stored: one that dies over it is replaced for the next run
        and takes nothing over. Raises Loss where nothing is to be recovered."""
        for seat in self._seats:
            try:
                self._answers.get("close", asked([seat.server], "close"))
            except Died:
                if not self._recover:
                    raise
                self._replace(seat)

    def _answered(
        self, seat: Seat, step: str, method: str, *arguments: Any, beside: Sequence[Call] = (), calls: Sequence[Call] = ()
    ) -> Any:
        """`calls`: the call, where it is under way."""
        tries = Tries(seat.spec.watchdog_s)
        while True:
            try:
                return self._answers.get(step, calls or asked([seat.server], method, *arguments), beside=beside)[0]
            except Frozen as frozen:
                raise explained_by_vcpus(frozen, self._left(seat)) from None
            except Died as loss:
                if loss.actor is not seat.server or not self._recover or tries.over():
                    raise
                if (last := self._lose_server(seat, loss)) is not None:
                    raise last from None
                calls = ()

    def _left(self, seat: Seat) -> list[Any]:
        return [vcpu for vcpu in seat.vcpus if vcpu not in self._gone]

    def _lose_vmm(self, seat: Seat, vcpu: Any, loss: Loss) -> Loss:
        self._gone.append(vcpu)
        self.pending = [one for one in self.pending if self._owner[one][1] is not vcpu]
        if not self._left(seat):
            return self._lose_guest(seat, loss)
        [look] = self._answers.get("look", asked([seat.server], "look"))
        if look["seconds"] == 0:  # the others wait at the start barrier for its vCPUs
            self._answers.get("abort", asked([seat.server], "abort", "a VMM process was lost before the start"))
        return loss

    def _lose_server(self, seat: Seat, loss: Died, status: RunStatus | None = None) -> Loss | None:
        """None when it was replaced."""
        last: Loss = loss
        if self._recover:
            try:
                self.recoveries += self._fail_over(seat)
                if status is not None:
                    status.renew(seat.server)
                return None
            except Loss as after:
                last = after
        if status is not None:
            status.drop(seat.server)
        return self._lose_guest(seat, last)

    def _lose_guest(self, seat: Seat, loss: Loss) -> Loss:
        self._gone += self._left(seat)
        self._seats.remove(seat)
        self.pending = [one for one in self.pending if self._owner[one][0] is not seat]
        if not self._seats:
            raise loss
        return loss

    def _fail_over(self, seat: Seat) -> int:
        """A new page server in place of the guest's that died; how many it took until one served. Raises Loss when a VMM
        process has died too, or page servers die one after the other."""
        tries, vcpus = Tries(seat.spec.watchdog_s), self._left(seat)
        while True:
            self._replace(seat)
            try:
                [held] = self._answers.get("failover", asked_aside(vcpus[:1], "address"))
                [address] = self._answers.get("failover", asked([seat.server], "take_over", seat.spec, held))
                handed = asked_aside(vcpus, "hand_over", address)
                self._answers.get("failover", [*handed, *asked([seat.server], "serve")])
                return tries.failed + 1
            except Died as loss:
                if loss.actor is not seat.server or tries.over():
                    raise

    def _replace(self, seat: Seat) -> None:
        replace(seat.server, self._answers)


class Suspicion:
    """Whether a process may be frozen. Only then are the processes of a run asked for signs of life while it is measured."""

    def __init__(self) -> None:
        self._counts: tuple[int, ...] = ()
        self._since = monotonic()

    def raised(self, now: dict[str, Any], actors: Sequence[Any]) -> bool:
        """By the status `now`, and by the state of the processes on this host."""
        counts = tuple(now[key] for key in ("accesses", "faults", "pages_resolved", "running", "finished"))
        if counts != self._counts:
            self._counts, self._since = counts, monotonic()
        stands_s = max((one["seconds"] for one in now["standing"]), default=0.0)
        still_s = max(stands_s, now.get("unanswered_s", 0.0), monotonic() - self._since)
        return still_s >= SUSPECTED_FROM_S or any(actor.stopped_here() for actor in actors)


class Tries:
    """For `seconds` from now on, but LEAST_TRIES at the least: on a busy host a few tries may take all of the time, and quick
    ones all fail within one moment. `failed`: how many have."""

    def __init__(self, seconds: float) -> None:
        self.failed = 0
        self._until = monotonic() + seconds

    def over(self) -> bool:
        """A try has failed: whether it was the last one."""
        self.failed += 1
        return self.failed >= LEAST_TRIES and monotonic() >= self._until


def replace(server: Any, answers: Answers) -> None:
    """Start another page server in the place of this one."""
    server.replace()
    answers.forget(server)


def alive(actor: Any) -> bool:
    """Whether Ray lists the actor's process."""
    [(_, sign)] = asked_aside([actor], "sign_of_life")
    answered, _ = ray.wait([sign], timeout=ALIVE_TIMEOUT_S)
    try:
        ray.get(answered)
    except RayActorError:
        return False
    return True


def explained_by_vcpus(frozen: Frozen, vcpus: Sequence[Any]) -> Frozen:
    """With the reason of the VMM processes' watchdog, where one has ended the run: it is in the guest's memory, too."""
    for vcpu, reference in asked_aside(vcpus, "stop_reason"):
        answered, _ = ray.wait([reference], timeout=ALIVE_TIMEOUT_S)
        try:
            reason = ray.get(answered[0]) if answered else ""
        except RayError:
            continue
        if reason:
            return Frozen(frozen.actor, f"{frozen.reason}; {vcpu.name}: {reason.removeprefix('stuck: ')}")
    return frozen


def prepared_anew(seats: Sequence[Seat], prepare: Callable[[], T], answers: Answers, *, recover: bool) -> T:
    """What `prepare` returns, which is called again with new page servers when one has died: nothing has been measured yet.
    Raises Loss."""
    tries = Tries(max(seat.spec.watchdog_s for seat in seats))
    while True:
        try:
            return prepare()
        except Died as loss:
            dead = [seat for seat in seats if seat.server is loss.actor or not alive(seat.server)]
            if not recover or not dead or tries.over():
                raise
            for seat in dead:
                replace(seat.server, answers)
