"""Single processes of this host: whether one runs, and its end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from workers.external.processes import HELD_UP, state_letter


def state_of(pid: int) -> str:
    """What keeps a process from running, in words; empty when nothing does, or when it is gone."""
    return HELD_UP.get(state_letter(pid), "")


def end_actor(pid: int) -> None:
    """Kill the process of an actor; nothing when the pid is no actor's any more."""
    with suppress(OSError):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
            os.kill(pid, signal.SIGKILL)
