"""Attach to the guest of another process of the same user and host, through its descriptors in /proc."""

from __future__ import annotations

import os

from workers import _native
from workers.reports import GuestAddress


def attach(address: GuestAddress, whose: str) -> _native.Guest:
    """The guest of the process at `address`; `whose` names it in errors. Raises ConnectionError when it ended, OSError."""
    opened: list[int] = []
    try:
        for number in (address.region_fd, address.shared_fd):
            opened.append(os.open(f"/proc/{address.pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC) if number >= 0 else -1)
        return _native.Guest.attach(*opened)
    except FileNotFoundError:
        raise ConnectionError(f"{whose} (pid {address.pid}) has ended, or runs on another host") from None
    finally:
        for descriptor in opened:
            if descriptor >= 0:
                os.close(descriptor)
