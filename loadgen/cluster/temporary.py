"""The temporary folder of a session: a path short enough for the Unix sockets that Ray makes below it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import tempfile
from pathlib import Path

from loadgen.errors import ConfigError

FOLDER_PREFIX = "ulg-"
LONGEST_SOCKET_PATH = 107
"""Bytes that fit into a sockaddr_un."""
BELOW = "/ulg-{pid}-12345678/session_2026-11-29_12-00-00_123456_{pid}/sockets/plasma_store"
"""The longest socket of Ray's, below the folder that temporary files go to."""
OTHERWISE = ("/tmp", "/var/tmp")


def new_folder() -> str:
    """A folder for this process's session in TMPDIR, or in /tmp where its path is too long. Raises ConfigError."""
    room = LONGEST_SOCKET_PATH - len(BELOW.format(pid=os.getpid()))
    asked = tempfile.gettempdir()
    problems = []
    for base in dict.fromkeys((asked, *OTHERWISE)):
        if len(os.fsencode(base)) > room:
            problems.append(f"{base}: Unix sockets below it would have paths longer than {LONGEST_SOCKET_PATH} bytes")
            continue
        try:
            return tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=base)
        except OSError as error:
            problems.append(f"{base}: {error.strerror}")
    raise ConfigError(
        [f"no folder for temporary files can be used ({'; '.join(problems)}): set TMPDIR to a short path you may write to"]
    )


def remove_stale_folders() -> None:
    """Remove what drivers that were killed have left: their processes end by themselves, their folders do not."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        pid = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError, KeyError):
            if pid.isdigit() and folder.owner() == getpass.getuser() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(folder, ignore_errors=True)
