"""Files of page numbers: traces and working sets."""

from __future__ import annotations

import os
import stat
from functools import lru_cache

MOST_BYTES = 4 << 30
MOST_PAGE = (1 << 32) - 1


def read_trace(path: str) -> tuple[int, ...]:
    """Page numbers of a file, one or more a line; `#` starts a comment.

    Raises OSError where it cannot be read, ValueError with the line that is not a page number or for what is not a file.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if status.st_size > MOST_BYTES:
        raise ValueError(f"the file has {status.st_size} bytes, more than {MOST_BYTES}")
    return _read(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=4)
def _read(path: str, *_unchanged: int) -> tuple[int, ...]:
    with open(path, encoding="utf-8", errors="replace") as lines:
        return tuple(page for number, line in enumerate(lines, 1) for page in _pages(number, line))


def _pages(number: int, line: str) -> list[int]:
    words = line.partition("#")[0].split()
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise ValueError(f"line {number}: {word[:40]!r} is not a page number")
        if len(word) > 10 or int(word) > MOST_PAGE:
            raise ValueError(f"line {number}: page {word[:40]} is more than {MOST_PAGE}")
    return [int(word) for word in words]
