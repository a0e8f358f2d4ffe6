"""The base of every actor of a session."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from workers.deadman import Deadman
from workers.reports import ProcessUsage

RAYS_WORKER = "default_worker.py"
"""The program of a process that Ray starts for actors."""
SENT_BY_NO_ACTOR = ("pyarrow", "pydantic", "starlette")
"""Ray imports them in each of its processes, should they be installed, to be able to send objects of theirs. An actor's
process is ready earlier without them, so it finds them missing."""


class Actor:
    """Ends its process when no heartbeat of the driver comes for `deadman_s` seconds (0: never); see `workers.deadman`.

    The methods here may be called while any other one is under way.
    """

    def __init__(self, deadman_s: float = 0.0) -> None:
        self._deadman = Deadman(deadman_s)

    def sign_of_life(self) -> None:
        """The driver is alive."""
        self._deadman.sign()

    def process_id(self) -> int:
        """The pid of this actor's process, on its host."""
        return os.getpid()

    def usage(self) -> ProcessUsage:
        """What this process has used so far: a process that works uses more and more."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return ProcessUsage(used.ru_utime + used.ru_stime, _bytes_read(), used.ru_majflt)


def _bytes_read() -> int:
    """Bytes this process had read from storage; 0 where the kernel does not count them."""
    try:
        counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    except OSError:
        return 0
    return int(counts["read_bytes"])


def _leave_out_of_rays_worker() -> None:
    """Called as the class of an actor is imported, which Ray does before it deserializes anything."""
    if Path(sys.argv[0]).name == RAYS_WORKER:
        for name in SENT_BY_NO_ACTOR:
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]


_leave_out_of_rays_worker()
