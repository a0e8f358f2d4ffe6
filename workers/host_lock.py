"""One run at a time on a host: a lock for all users of the machine, released when the process that holds it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

LOCK_FILE = Path("/tmp/uffd-loadgen.lock")
"""Not below TMPDIR, which differs between users and jobs: all of them must use the same file."""


class HostLock:
    """`take`, then `give`. Never waits: a caller tries again, and can print meanwhile what it waits for.

    Works for every user: flock(2) needs only a file opened for reading.
    """

    def __init__(self, path: Path = LOCK_FILE) -> None:
        self._path = path
        self._descriptor = -1

    def take(self) -> bool:
        """Whether this process holds the lock. Raises OSError when the lock file cannot be opened."""
        if self._descriptor >= 0:
            return True
        descriptor = _opened(self._path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def give(self) -> None:
        """Release the lock; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _opened(path: Path) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    # Created exclusively: in a sticky folder fs.protected_regular refuses O_CREAT on another user's file, root's included.
    with contextlib.suppress(FileExistsError):
        made = os.open(path, flags | os.O_CREAT | os.O_EXCL)
        os.fchmod(made, 0o644)  # independent of the umask
        os.close(made)
    return os.open(path, flags)
