"""What a run does when a process of it dies while it is measured.

A VMM process takes its own vCPUs with it, the others of its guest are served on. Under `recover` a page server is succeeded by
another one, and so is one that dies over that, for the watchdog's time; without it, or with the host gone, the guest is lost. The
guests that are left run to their end, and are stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayError

from loadgen.cluster.actors import aside
from loadgen.cluster.session import Seat
from loadgen.run.live_status import POLL_S, RunLooks
from loadgen.run.retries import Patience

STEP_TIMEOUT_S = 300.0

T = TypeVar("T")


class GuestLost(Exception):
    """A guest has lost its page server, or its last VMM process."""

    def __init__(self, seat: Seat, error: RayActorError) -> None:
        super().__init__(f"guest {seat.number}: {error}")
        self.seat, self.error = seat, error


class Losses:
    """Of one run: its guests, the calls to `run` of their VMM processes, what was lost, and `recoveries`, how often a page server
    was succeeded. `died` is told who has died, in words of the driver's, and why."""

    def __init__(self, seats: Sequence[Seat], died: Callable[[RayActorError], None], *, recover: bool) -> None:
        self.recoveries = 0
        self.pending: list[Any] = []
        self._seats = list(seats)
        self._died, self._recover = died, recover
        self._whose: dict[Any, tuple[Seat, Any]] = {}
        self._gone: list[Any] = []

    @property
    def seats(self) -> list[Seat]:
        """The guests that are left, each with the VMM processes that are."""
        return [dataclasses.replace(seat, vcpus=[vcpu for vcpu in seat.vcpus if vcpu not in self._gone]) for seat in self._seats]

    def columns(self, distrust: str | None) -> dict[str, Any]:
        """Columns of the run's row; `distrust`: what spoke against it before."""
        doubt = f"the page server was killed and succeeded ({self.recoveries})" if self.recoveries else None
        doubts = [text for text in (distrust, doubt) if text]
        return {"recoveries": self.recoveries, "distrust": "; ".join(doubts) or None} | ({"trusted": False} if doubt else {})

    def run(self) -> list[Any]:
        """Start the VMM processes; the calls that are under way."""
        for seat in self._seats:
            for vcpu in seat.vcpus:
                self._whose[vcpu.run.remote()] = (seat, vcpu)
        self.pending = list(self._whose)
        return list(self.pending)

    def wait(self) -> None:
        """Until a VMM process has ended, or a look is due. Raises GuestLost when nothing is left."""
        ended, self.pending = ray.wait(self.pending, num_returns=1, timeout=POLL_S)
        for one in ended:
            try:
                ray.get(one)
            except RayActorError as error:
                self._lose_vmm(*self._whose[one], error)

    def look(self, looks: RunLooks, due: float) -> dict[str, Any] | None:
        """The look that is due; None when it has found a page server dead. Raises GuestLost when no guest is left."""
        try:
            return looks.take(due)
        except RayActorError as error:
            dead = [seat for seat in self._seats if not alive(seat.server)]
            if not dead:
                raise
            for seat in dead:
                self._lose_server(seat, error)
                looks.renew(seat.server)
                if seat not in self._seats:
                    looks.drop(seat.server)
            return None

    def ask(self, method: str) -> list[Any]:
        """What each guest's page server says, and its successor's answer when it dies over it. Raises RayActorError."""
        return [self._asked(seat, method) for seat in self._seats]

    def close(self) -> None:
        """The page servers let their guests go, whose results are all here: one that dies over it needs no successor that takes
        over, only one for the next run. Raises RayActorError where nothing is to be recovered."""
        for seat in self._seats:
            try:
                ray.get(seat.server.close.remote(), timeout=STEP_TIMEOUT_S)
            except RayActorError:
                if not self._recover:
                    raise
                seat.server.replace()

    def _asked(self, seat: Seat, method: str) -> Any:
        patience = Patience(seat.spec.watchdog_s)
        while True:
            try:
                return ray.get(getattr(seat.server, method).remote(), timeout=STEP_TIMEOUT_S)
            except RayActorError as error:
                if not self._recover or patience.over():
                    raise
                self._lose_server(seat, error)
                if seat not in self._seats:
                    raise

    def _lose_vmm(self, seat: Seat, vcpu: Any, error: RayActorError) -> None:
        self._gone.append(vcpu)
        self._died(error)
        if all(one in self._gone for one in seat.vcpus):
            self._lose_guest(seat, error)
        else:
            with suppress(RayError):  # who waits at the barrier for a vCPU that is gone waits in vain
                if ray.get(seat.server.look.remote(), timeout=STEP_TIMEOUT_S)["seconds"] == 0:
                    ray.get(seat.server.abort.remote("a VMM process died before the start"), timeout=STEP_TIMEOUT_S)

    def _lose_server(self, seat: Seat, error: RayActorError) -> None:
        if not self._recover:
            self._died(error)
            self._lose_guest(seat, error)
            return
        try:
            self.recoveries += succeed(seat, [vcpu for vcpu in seat.vcpus if vcpu not in self._gone])
        except RayActorError as last:
            self._died(last)
            self._lose_guest(seat, last)

    def _lose_guest(self, seat: Seat, error: RayActorError) -> None:
        self._gone += [vcpu for vcpu in seat.vcpus if vcpu not in self._gone]
        self._seats.remove(seat)
        self.pending = [one for one in self.pending if self._whose[one][0] is not seat]
        if not self._seats:
            raise GuestLost(seat, error)


def alive(actor: Any) -> bool:
    """Whether the actor's process is there."""
    try:
        ray.get(aside(actor.sign_of_life).remote(), timeout=STEP_TIMEOUT_S)
    except RayActorError:
        return False
    return True


def succeed(seat: Seat, vcpus: Sequence[Any]) -> int:
    """A new page server in place of the guest's that died, of whose VMM processes these are alive; how many it took until one
    served. Raises RayActorError when one of them has died too, or page servers die one after the other."""
    patience = Patience(seat.spec.watchdog_s)
    while True:
        seat.server.replace()
        try:
            held = ray.get(aside(vcpus[0].address).remote(), timeout=STEP_TIMEOUT_S)
            address = ray.get(seat.server.take_over.remote(seat.spec, held), timeout=STEP_TIMEOUT_S)
            handed = [aside(vcpu.hand_over).remote(address) for vcpu in vcpus]
            ray.get([*handed, seat.server.serve.remote()], timeout=STEP_TIMEOUT_S)
            return patience.tries + 1
        except RayActorError:
            if alive(seat.server) or patience.over():
                raise


def prepared_anew(seats: Sequence[Seat], prepare: Callable[[], T], *, recover: bool) -> T:
    """What `prepare` returns, which is called again with new page servers when it raised because one had died: nothing has been
    measured yet. Raises RayActorError."""
    patience = Patience(max(seat.spec.watchdog_s for seat in seats))
    while True:
        try:
            return prepare()
        except RayActorError:
            dead = [seat for seat in seats if not alive(seat.server)]
            if not recover or not dead or patience.over():
                raise
            for seat in dead:
                seat.server.replace()
