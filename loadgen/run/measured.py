"""The columns and rows measured of a run so far, and how it ended."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayError, RayTaskError

from loadgen.cluster.answers import Loss, first_line
from loadgen.host.changes import HostChangeError
from loadgen.host.stop_signals import stop_signal
from results.store.dataset import DataSetError

Ending = tuple[str, str]
"""Status and reason of a run."""

ENDINGS: tuple[tuple[type[BaseException], Callable[[Any], Ending]], ...] = (
    (KeyboardInterrupt, lambda error: ("interrupted", _stopped_by())),
    (Loss, lambda loss: (loss.status, loss.reason)),
    (HostChangeError, lambda error: ("failed", str(error))),
    (RayTaskError, lambda error: ("failed", first_line(error.cause))),
    (RayError, lambda error: ("failed", first_line(error))),
)
"""The status of a run that each kind of error ends; the first that fits counts."""
ENDING_ERRORS = tuple(kind for kind, _ in ENDINGS)


def ending(error: BaseException) -> Ending:
    """The ending that one of ENDING_ERRORS makes of a run."""
    return next(of(error) for kind, of in ENDINGS if isinstance(error, kind))


def _stopped_by() -> str:
    return "Ctrl-C" if stop_signal() == signal.SIGINT else stop_signal().name


@dataclass
class Measured:
    """Columns of a run's row, and the rows of its vCPUs and threads. `row`: the row as it was stored. `interruption`: what
    ended it from outside; the sweep ends with it."""

    columns: dict[str, Any]
    vcpus: list[dict[str, Any]]
    threads: list[dict[str, Any]] = field(default_factory=list)
    status: str = "ok"
    reason: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    interruption: KeyboardInterrupt | None = None

    def end(self, status: str, reason: str) -> None:
        """How the run ended. The first ending that is not ok stays."""
        if self.status == "ok":
            self.status, self.reason = status, reason


def not_stored(error: DataSetError) -> Measured:
    """A run that the data set could not take."""
    return Measured({}, [], status="not stored", reason=str(error))
