"""Counting a tracepoint over a thread and the threads it starts: what the kernel says of what was counted otherwise."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYS_PERF_EVENT_OPEN = 298  # x86-64
PERF_TYPE_TRACEPOINT = 2
INHERIT = 1 << 1
ATTR_BYTES = 112


@contextmanager
def tracefs(at: Path) -> Iterator[Path]:
    """The folder of the kernel's events, mounted at `at` while this lasts. Raises CalledProcessError where that is refused."""
    at.mkdir()
    subprocess.run(["mount", "-t", "tracefs", "nodev", str(at)], check=True, capture_output=True)
    try:
        yield at / "events"
    finally:
        subprocess.run(["umount", str(at)], check=True)


class Counted:
    """How often a tracepoint was passed by this thread and those it has started and that have ended, since this was made."""

    def __init__(self, events: Path, event: str) -> None:
        number = int((events / event / "id").read_text())
        attributes = struct.pack("IIQQQQQ", PERF_TYPE_TRACEPOINT, ATTR_BYTES, number, 0, 0, 0, INHERIT).ljust(ATTR_BYTES, b"\0")
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.syscall(SYS_PERF_EVENT_OPEN, attributes, 0, -1, -1, 0)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), f"perf_event_open of {event}")

    def close(self) -> int:
        """The count, the last one."""
        (count,) = struct.unpack("Q", os.read(self._fd, 8))
        os.close(self._fd)
        return int(count)
