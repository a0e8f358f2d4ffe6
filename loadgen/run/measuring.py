"""The measured phase: from the start of the VMM processes until the last of their vCPUs has ended, is lost, or was stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from loadgen.cluster.answers import Loss
from loadgen.run.live_status import POLL_S, RunStatus
from loadgen.run.measured import Measured, ending
from loadgen.run.recovery import Guests
from workers.spec import RunSpec

STOP_GRACE_S = 5.0

Progress = Callable[[dict[str, Any]], None]


class Deadline:
    """The driver's own watchdog, behind those of the VMM processes: theirs report nothing when their process does not run.

    It is passed when nothing has changed for the watchdog's time, the longest wait a vCPU was asked to make, and a grace. A
    watchdog of 0 s is off, here too.
    """

    def __init__(self, spec: RunSpec) -> None:
        access = spec.access
        longest_wait_s = access.think_ns / 1e9 + (1 / access.rate_per_s if access.rate_per_s > 0 else 0.0)
        self.limit_s = spec.watchdog_s + longest_wait_s + STOP_GRACE_S if spec.watchdog_s > 0 else math.inf
        self._seen: tuple[int, ...] = ()
        self._since = time.monotonic()

    def passed(self, now: dict[str, Any]) -> bool:
        """Whether the run's progress has stood still for too long."""
        counts = tuple(now[key] for key in ("accesses", "faults", "pages_resolved", "running", "finished"))
        if counts != self._seen:
            self._seen, self._since = counts, time.monotonic()
        return time.monotonic() - self._since > self.limit_s


def measure(guests: Guests, spec: RunSpec, measured: Measured, progress: Progress) -> float | None:
    """Wait until no VMM process runs any more; polls their status at most twice a second. Ctrl-C and the deadline stop the guests
    and wait them out. Returns the most seconds by which an answer came late. Raises the Loss that leaves no guest."""
    status, deadline = RunStatus([seat.server for seat in guests.seats], spec.vcpus), Deadline(spec)
    try:
        while guests.pending:
            began = time.monotonic()
            _note(measured, guests.wait())
            if guests.pending and time.monotonic() - began >= POLL_S:
                now = guests.polled(status, due=began + POLL_S)
                if now is None or isinstance(now, Loss):
                    _note(measured, now)
                    continue
                progress(now)
                _note(measured, guests.stopped(now, status))
                if deadline.passed(now):
                    measured.end("stuck", f"stalled: no progress for {deadline.limit_s:.0f} s, and no watchdog fired")
                    _stop(guests, "no progress")
                    break
    except KeyboardInterrupt as interruption:
        measured.interruption = interruption
        measured.end(*ending(interruption))
        _stop(guests, "interrupted")
    return status.lag_s


def _note(measured: Measured, loss: Loss | None) -> None:
    if loss is not None:
        measured.end(*ending(loss))


def _stop(guests: Guests, reason: str) -> None:
    with suppress(RayError):
        ray.get([seat.server.abort.remote(reason) for seat in guests.seats], timeout=STOP_GRACE_S)
    ray.get(guests.pending, timeout=STOP_GRACE_S)
