"""What a handler has printed, as text that fits a line of a table and does nothing to a terminal."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

TAIL_LINES = 3
TAIL_LENGTH = 300
LINE_LENGTH = 200
MOST_BYTES = 64 << 10
"""Read of a file, however long it is."""
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|.)")


def plain(text: bytes) -> str:
    """On one line, without escape sequences and control characters."""
    shown = ESCAPES.sub("", text.decode(errors="replace"))
    return "".join(one if one.isprintable() else " " for one in shown).strip()


def first_line(path: Path) -> str:
    """The first that is not blank; empty while there is none."""
    with suppress(OSError), open(path, "rb") as file:
        lines = map(plain, file.read(MOST_BYTES).splitlines())
        return next(filter(None, lines), "")[:LINE_LENGTH]
    return ""


def last_lines(path: Path) -> str:
    """The last that are not blank, with bars between; empty without one."""
    with suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MOST_BYTES))
        lines = [line for line in map(plain, file.read(MOST_BYTES).splitlines()) if line]
        return " | ".join(lines[-TAIL_LINES:])[-TAIL_LENGTH:]
    return ""
