"""The handshake: a VMM process hands its userfaultfd to the page server over a Unix stream socket.

First message (the one Firecracker sends): a JSON array of regions with the userfaultfd in SCM_RIGHTS. Second message, ours
alone and waited for only briefly: a JSON object with a magic and a version, and the memfds of page record and fault records.
One connection is one userfaultfd. The page server's side is `acceptor`, which checks every field with what is here.
"""

from __future__ import annotations

import fcntl
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

MAGIC = "uffd-loadgen"
VERSION = 1
MAX_MESSAGE_BYTES = 65_536
ADDRESS_LIMIT = 1 << 64


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
    if len(message) > MAX_MESSAGE_BYTES:
        raise HandshakeError(f"the message is longer than {MAX_MESSAGE_BYTES} bytes")
    try:
        parsed = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise HandshakeError(f"malformed JSON: {error}") from None
    if not isinstance(parsed, list) or not parsed:
        raise HandshakeError("expected a JSON array of at least one region")
    regions = [_region(entry, page_bytes, region_bytes) for entry in parsed]
    refuse_overlap(regions, "base_host_virt_addr", "addresses")
    refuse_overlap(regions, "offset", "offsets")
    return regions


def _region(entry: Any, page_bytes: int, region_bytes: int) -> Region:
    if not isinstance(entry, dict):
        raise HandshakeError("a region is not a JSON object")
    values: dict[str, int] = {}
    for key in ("base_host_virt_addr", "size", "offset", "page_size"):
        value = entry.get(key)
        if type(value) is not int:
            raise HandshakeError(f"a region's {key} is missing or not an integer")
        if not 0 <= value < ADDRESS_LIMIT:
            raise HandshakeError(f"a region's {key} is outside 64 bits: {value}")
        values[key] = value
    region = Region(**values)
    if region.page_size != page_bytes:
        raise HandshakeError(f"a region's page_size is {region.page_size}, the guest's is {page_bytes}")
    if region.size == 0:
        raise HandshakeError("a region's size is 0")
    for key in ("base_host_virt_addr", "size", "offset"):
        if values[key] % page_bytes:
            raise HandshakeError(f"a region's {key} is not aligned to its page_size")
    if region.base_host_virt_addr + region.size > ADDRESS_LIMIT:
        raise HandshakeError("a region's addresses run past 2^64")
    if region.offset + region.size > region_bytes:
        raise HandshakeError(f"a region ends at {region.offset + region.size}, the guest region at {region_bytes}")
    return region


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
