"""A private folder for a Unix socket, locked by its process: the folder of a killed process can be removed, one in use cannot."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "uffd-loadgen-socket-"
LONGEST_PATH = 107
"""Bytes that the address of a Unix socket has room for."""


class SocketFolder:
    """A new one in the temporary folder. First removes those that processes which were killed have left there.

    Raises OSError when it cannot be made.
    """

    def __init__(self) -> None:
        for other in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/"):
            with contextlib.suppress(OSError):  # in use, another user's, or removed meanwhile
                _remove_stale(other)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._held = _lock(self.path, fcntl.LOCK_EX)

    def remove(self) -> None:
        """With what is in it; idempotent."""
        if self._held >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._held)
            self._held = -1


def _remove_stale(folder: Path) -> None:
    """Raises OSError when it is not ours to remove. An empty one may be new: its lock is taken before there is a socket in it."""
    held = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        if any(folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)


def _lock(folder: Path, how: int) -> int:
    """Its descriptor, with the lock. Raises BlockingIOError when another process has it and this one does not wait."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
