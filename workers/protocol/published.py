"""The published handshake from the VMM's side: one message with the regions, the userfaultfd in SCM_RIGHTS, and nothing else.

The key of the page size was `page_size_kib` in older VMMs, with the same number of bytes; some send both.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence

from workers.protocol.handshake import Region

MESSAGES = ("current", "old", "both")
"""Forms of the message: `page_size`, `page_size_kib`, or both keys."""

CONNECT_TIMEOUT_S = 10.0


def published_message(regions: Sequence[Region], form: str) -> bytes:
    """The regions as a VMM sends them."""
    return json.dumps([_entry(region, form) for region in regions]).encode()


def hand_over(path: str, uffd: int, regions: Sequence[Region], form: str) -> socket.socket:
    """Connect to a handler and send it the userfaultfd. The connection stays open as long as the VMM lives.

    Raises OSError when the handler cannot be reached, or is gone before it took the message.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect(path)
        socket.send_fds(connection, [published_message(regions, form)], [uffd])
    except BaseException:
        connection.close()
        raise
    return connection


def _entry(region: Region, form: str) -> dict[str, int]:
    entry = region.as_json()
    if form != "current":
        entry["page_size_kib"] = region.page_size
    if form == "old":
        del entry["page_size"]
    return entry
