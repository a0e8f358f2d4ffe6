"""The handshake: a VMM process hands its userfaultfd to the page server over a Unix stream socket.

First message (the one Firecracker sends): a JSON array of regions with the userfaultfd in SCM_RIGHTS. Second message, ours
alone and waited for only briefly: a JSON object with a magic and a version, and the memfds of page record and fault records.
One connection is one userfaultfd. The page server's side is `acceptor`, which checks every field with what is here.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

MAGIC = "uffd-loadgen"
VERSION = 1
MAX_MESSAGE_BYTES = 65_536
ADDRESS_LIMIT = 1 << 64
USERFAULTFD = "anon_inode:[userfaultfd]"
"""What /proc shows a descriptor of one as."""


class HandshakeError(Exception):
    """A peer broke the protocol; the text has what was wrong."""


@dataclass(frozen=True)
class Region:
    """One stretch of guest memory as its VMM process maps it; all in bytes."""

    base_host_virt_addr: int
    size: int
    offset: int
    page_size: int

    def as_json(self) -> dict[str, int]:
        """The object of the published message."""
        return {
            "base_host_virt_addr": self.base_host_virt_addr,
            "size": self.size,
            "offset": self.offset,
            "page_size": self.page_size,
        }


def parse_regions(message: bytes, page_bytes: int, region_bytes: int) -> list[Region]:
    """The regions of a first message, checked against the guest's page size and size in bytes. Raises HandshakeError."""

    def checked(entry: dict[str, Any]) -> Region:
        asked = whole_number(entry, "page_size")
        if asked != page_bytes:
            raise HandshakeError(f"a region's page_size is {asked}, the guest's is {page_bytes}")
        region = region_of(entry, page_bytes)
        if region.offset + region.size > region_bytes:
            raise HandshakeError(f"a region ends at {region.offset + region.size}, the guest region at {region_bytes}")
        return region

    return regions_in(message, checked)


def regions_in(message: bytes, checked: Callable[[dict[str, Any]], Region]) -> list[Region]:
    """The regions of a message, no two of which overlap; `checked` makes one of its object. Raises HandshakeError."""
    if len(message) > MAX_MESSAGE_BYTES:
        raise HandshakeError(f"the message is longer than {MAX_MESSAGE_BYTES} bytes")
    try:
        parsed = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise HandshakeError(f"malformed JSON: {error}") from None
    if not isinstance(parsed, list) or not parsed:
        raise HandshakeError("expected a JSON array of at least one region")
    if not all(isinstance(entry, dict) for entry in parsed):
        raise HandshakeError("a region is not a JSON object")
    regions = [checked(entry) for entry in parsed]
    refuse_overlap(regions, "base_host_virt_addr", "addresses")
    refuse_overlap(regions, "offset", "offsets")
    return regions


def region_of(entry: dict[str, Any], page_bytes: int) -> Region:
    """The region of a JSON object, whole pages of so many bytes. Raises HandshakeError."""
    values = {key: whole_number(entry, key) for key in ("base_host_virt_addr", "size", "offset")}
    if values["size"] == 0:
        raise HandshakeError("a region's size is 0")
    for key, value in values.items():
        if value % page_bytes:
            raise HandshakeError(f"a region's {key} is not aligned to its page size of {page_bytes}")
    if values["base_host_virt_addr"] + values["size"] > ADDRESS_LIMIT:
        raise HandshakeError("a region's addresses run past 2^64")
    return Region(**values, page_size=page_bytes)


def whole_number(entry: dict[str, Any], key: str) -> int:
    """A number of a region, in 64 bits. Raises HandshakeError."""
    value = entry.get(key)
    if type(value) is not int:
        raise HandshakeError(f"a region's {key} is missing or not an integer")
    if not 0 <= value < ADDRESS_LIMIT:
        raise HandshakeError(f"a region's {key} is outside 64 bits: {value}")
    return value


def refuse_overlap(regions: Sequence[Region], key: str, what: str) -> None:
    """Raises HandshakeError where two regions' `what` (the field `key`, and their size) overlap."""
    ordered = sorted(regions, key=lambda region: int(getattr(region, key)))
    for before, after in pairwise(ordered):
        if getattr(before, key) + before.size > getattr(after, key):
            raise HandshakeError(f"two regions' {what} overlap")


def parse_extras(message: bytes) -> tuple[int, int]:
    """(vmm, shard) of a second message. Raises HandshakeError."""
    try:
        parsed = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise HandshakeError(f"malformed JSON in the second message: {error}") from None
    if not isinstance(parsed, dict) or parsed.get("magic") != MAGIC:
        raise HandshakeError("the second message lacks our magic")
    if type(parsed.get("version")) is not int or parsed["version"] != VERSION:
        raise HandshakeError(f"the second message has version {parsed.get('version')!r}, this page server speaks {VERSION}")
    vmm, shard = parsed.get("vmm"), parsed.get("shard")
    if type(vmm) is not int or type(shard) is not int or vmm < 0 or shard < 0:
        raise HandshakeError("the second message's vmm and shard must be integers from 0 on")
    return vmm, shard


def refuse_all_but_userfaultfd(descriptor: int) -> None:
    """Raises HandshakeError for any other descriptor."""
    target = os.readlink(f"/proc/self/fd/{descriptor}")
    if target != USERFAULTFD:
        raise HandshakeError(f"the descriptor is no userfaultfd but {target}")


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end; pid 0: it is in another pid namespace."""
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return pid, uid


def refuse_shrinking(descriptor: int, what: str) -> None:
    """Raises HandshakeError for a file that its owner may truncate later: who has it mapped would die of SIGBUS."""
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        raise HandshakeError(f"the descriptor of the {what} is no memfd") from None
    if not seals & fcntl.F_SEAL_SHRINK:
        raise HandshakeError(f"the memfd of the {what} can be truncated: seal it with F_SEAL_SHRINK")


def send(
    path: str, uffd: int, regions: Sequence[Region], *, vmm: int, shard: int, record_fd: int, faults_fd: int
) -> socket.socket:
    """Hand a userfaultfd over; the connection stays open as long as the VMM process is to be served.

    Raises OSError when the page server cannot be reached.
    """
    published = json.dumps([region.as_json() for region in regions]).encode()
    extras = json.dumps({"magic": MAGIC, "version": VERSION, "vmm": vmm, "shard": shard}).encode()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(10.0)
        connection.connect(path)
        # On a stream, but apart all the same: the kernel ends a read after a message that carries descriptors.
        # One right after the other: the page server waits for the second only briefly.
        socket.send_fds(connection, [published], [uffd])
        socket.send_fds(connection, [extras], [record_fd, faults_fd])
    except BaseException:
        connection.close()
        raise
    return connection
