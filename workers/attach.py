"""One process's guest as another process of the same user and host gets it: through the descriptors under /proc."""

from __future__ import annotations

import os

from workers import _native
from workers.reports import GuestAddress


def attach(address: GuestAddress, whose: str) -> _native.Guest:
    """The guest held by the process at `address`, which is `whose`. Raises ConnectionError when that process is gone, OSError."""
    opened: list[int] = []
    try:
        for number in (address.region_fd, address.shared_fd):
            opened.append(os.open(f"/proc/{address.pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC) if number >= 0 else -1)
        return _native.Guest.attach(*opened)
    except FileNotFoundError:
        raise ConnectionError(f"{whose} (pid {address.pid}) is gone, or does not run on this host") from None
    finally:
        for descriptor in opened:
            if descriptor >= 0:
                os.close(descriptor)
