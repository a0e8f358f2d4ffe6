"""A session's temporary folder, and the processes that live in it: Ray's and the actors', which have it in their environment."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE_S = 0.5
"""How long processes may take to see for themselves that their driver is gone."""
LOOK_S = 0.1


@contextmanager
def session_folder(size_bytes: int, folder: str) -> Iterator[str]:
    """The folder is there inside; after it, neither it nor a process that has it for TMPDIR or among its arguments."""
    yield folder
    deadline = time.monotonic() + PATIENCE_S
    while left := living_in(folder):
        if time.monotonic() > deadline:
            for pid in left:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_S)
    shutil.rmtree(folder, ignore_errors=True)


def living_in(folder: str) -> list[int]:
    """Processes, but for this one, that were started with the folder as their TMPDIR or as an argument."""
    environment, argument = f"TMPDIR={folder}".encode(), folder.encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):  # gone meanwhile, or another user's
            if environment in (entry / "environ").read_bytes().split(b"\0") or argument in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
