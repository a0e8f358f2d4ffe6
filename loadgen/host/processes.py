"""Single processes of this host: whether one runs, and its end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

STATES = {"T": "stopped by a signal (SIGSTOP)", "t": "stopped by a debugger", "D": "in an uninterruptible sleep, or frozen"}
"""Process states in which no thread of it runs, as /proc names them."""


def state_of(pid: int) -> str:
    """What keeps a process from running, in words; empty when nothing does, or when it is gone."""
    with suppress(OSError):
        return STATES.get(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0], "")
    return ""


def end_actor(pid: int) -> None:
    """Kill the process of an actor; nothing when the pid is no actor's any more."""
    with suppress(OSError):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
            os.kill(pid, signal.SIGKILL)
