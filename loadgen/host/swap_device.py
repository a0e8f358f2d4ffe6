"""Swap space that exists inside a `with`: a zram device of its own, or a file. Root only; needs `mkswap` (util-linux)."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

SWAP_FLAG_PREFER = 0x8000
HIGHEST_PRIORITY = 0x7FFF
"""Ours is filled before any swap the host has itself."""
SWAPOFF_PATIENCE_S = 60.0
ZRAM_CONTROL = Path("/sys/class/zram-control")
ZRAM_BLOCKS = Path("/sys/block")

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def zram(size_bytes: int, folder: str = "") -> Iterator[str]:
    """A zram device of `size_bytes` (memory that holds what is swapped out, compressed); its path. Raises OSError."""
    number, added = _take_zram()
    sysfs = ZRAM_BLOCKS / f"zram{number}"
    try:
        (sysfs / "disksize").write_text(str(size_bytes))
        with _swapped_on(f"/dev/zram{number}"):
            yield f"/dev/zram{number}"
    finally:
        with suppress(OSError):
            (sysfs / "reset").write_text("1")
        if added:
            (ZRAM_CONTROL / "hot_remove").write_text(str(number))


@contextmanager
def file(size_bytes: int, folder: str) -> Iterator[str]:
    """A swap file of `size_bytes` in `folder`; its path. Raises OSError: a file system in memory takes none, for example."""
    handle, path = tempfile.mkstemp(prefix="uffd-loadgen-swap-", dir=folder)
    try:
        os.posix_fallocate(handle, 0, size_bytes)  # the kernel refuses a file with holes
        with _swapped_on(path):
            yield path
    finally:
        os.close(handle)
        os.unlink(path)


KINDS: dict[str, Callable[..., AbstractContextManager[str]]] = {"zram": zram, "file": file}


def in_use() -> list[str]:
    """Paths of the swap spaces that are on."""
    return [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]]


def zram_there() -> bool:
    """Whether the kernel has zram with a device to add, or one that is free."""
    return ZRAM_CONTROL.exists() or _free_zram0()


def _free_zram0() -> bool:
    with suppress(OSError):
        return (ZRAM_BLOCKS / "zram0" / "disksize").read_text().strip() == "0"
    return False


def _take_zram() -> tuple[int, bool]:
    """A device number, and whether it was added for us. Two of us at once never get the same one: an added one is new, and
    only the first to size zram0 succeeds."""
    with suppress(FileNotFoundError):
        return int((ZRAM_CONTROL / "hot_add").read_text()), True
    if _free_zram0():
        return 0, False
    raise OSError(errno.ENODEV, "no zram device is free", "/dev/zram0")


@contextmanager
def _swapped_on(path: str) -> Iterator[None]:
    made = subprocess.run(["mkswap", path], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise OSError(errno.EIO, f"mkswap: {made.stderr.strip()}", path)
    _call(_libc.swapon, path, SWAP_FLAG_PREFER | HIGHEST_PRIORITY)
    try:
        yield
    finally:
        _swap_off(path)


def _swap_off(path: str) -> None:
    # Everything in it has to come back to memory, which may take until the processes that own it are gone.
    deadline = time.monotonic() + SWAPOFF_PATIENCE_S
    while True:
        try:
            return _call(_libc.swapoff, path)
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.EINTR, errno.EBUSY) or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _call(function: Any, path: str, *arguments: int) -> None:
    if function(path.encode(), *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}", path)
