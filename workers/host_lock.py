"""One run at a time on a host: a lock of the whole machine, whoever runs on it, gone with the process that holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

LOCK_FILE = Path("/tmp/uffd-loadgen.lock")
"""Not below TMPDIR, which is another one for each user or job: everybody who measures on this host has to meet here."""


class HostLock:
    """`take`, then `give`. Never waits: whoever wants it asks again, and can say meanwhile what for.

    Any user can take part: flock(2) wants no more than a file opened for reading.
    """

    def __init__(self, path: Path = LOCK_FILE) -> None:
        self._path = path
        self._descriptor = -1

    def take(self) -> bool:
        """Whether it is ours now. Raises OSError when the lock's file cannot be opened."""
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
        """Let the next one have it; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _opened(path: Path) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    # Created exclusively: in a sticky folder fs.protected_regular refuses O_CREAT on another user's file, root's included.
    with contextlib.suppress(FileExistsError):
        made = os.open(path, flags | os.O_CREAT | os.O_EXCL)
        os.fchmod(made, 0o644)  # whatever the umask says
        os.close(made)
    return os.open(path, flags)
