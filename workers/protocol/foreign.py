"""The published handshake as a foreign VMM speaks it: one message, a JSON array of regions with a userfaultfd in SCM_RIGHTS, and
nothing said afterwards. What else has been seen in the field is recognised and refused by name."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.protocol.handshake import (
    MAX_MESSAGE_BYTES,
    HandshakeError,
    Region,
    refuse_all_but_userfaultfd,
    region_of,
    regions_in,
    whole_number,
)
from workers.protocol.receive import JsonEnd, receive_now

MOST_PAGE_BYTES = 1 << 30
MOST_DESCRIPTORS = 8
EVENT_REMOVE, THREAD_ID = 1 << 3, 1 << 8


@dataclass(frozen=True)
class Hello:
    """What a VMM has said. `uffd` is the receiver's to close; `features`: what its userfaultfd reports."""

    uffd: int
    regions: tuple[Region, ...]
    features: int

    @property
    def page_bytes(self) -> int:
        """Of its regions the smallest: what its pages are counted in."""
        return min(self.page_sizes)

    @property
    def page_sizes(self) -> tuple[int, ...]:
        """Of its regions, each once, the smallest first."""
        return tuple(sorted({region.page_size for region in self.regions}))

    @property
    def tracks_removes(self) -> bool:
        """Whether pages that its balloon drops are reported, and held up until the report is read."""
        return bool(self.features & EVENT_REMOVE)

    @property
    def names_threads(self) -> bool:
        """Whether faults name the thread."""
        return bool(self.features & THREAD_ID)


@dataclass
class Listening:
    """One peer until its message is whole: `read` whenever its socket is readable."""

    connection: socket.socket
    snapshot_bytes: int
    message: bytearray = field(default_factory=bytearray)
    descriptors: list[int] = field(default_factory=list)
    end: JsonEnd = field(default_factory=JsonEnd)

    def read(self) -> Hello | None:
        """What it has said, once that is whole. Raises HandshakeError and OSError; the descriptors stay until `close`."""
        data, received, cut_off = receive_now(self.connection, MOST_DESCRIPTORS)
        self.descriptors += received
        if cut_off or len(self.descriptors) > 1:
            raise HandshakeError(
                f"{'more than ' if cut_off else ''}{len(self.descriptors)} descriptors came with the message: a guest_memfd and "
                "a bitmap beside the userfaultfd are an extension that is not supported"
            )
        if not data:
            raise HandshakeError("disconnected half way through its message" if self.message else "disconnected before a message")
        self.message += data
        if len(self.message) > MAX_MESSAGE_BYTES:
            raise HandshakeError(f"the message is longer than {MAX_MESSAGE_BYTES} bytes")
        return self._hello() if self.end.feed(data) else None

    def close(self) -> None:
        """Close the descriptors that have come."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []

    def _hello(self) -> Hello:
        regions = regions_of(bytes(self.message), self.snapshot_bytes)
        if not self.descriptors:
            raise HandshakeError("no descriptor came with the message: the userfaultfd belongs into its SCM_RIGHTS")
        refuse_all_but_userfaultfd(self.descriptors[0])
        flags, features = _of_descriptor(self.descriptors[0])
        if not flags & os.O_NONBLOCK:
            raise HandshakeError("its userfaultfd is blocking, and poll on such a one is an error: open it with O_NONBLOCK")
        return Hello(self.descriptors.pop(), tuple(regions), features)


def regions_of(message: bytes, snapshot_bytes: int) -> list[Region]:
    """The regions of a message: together they are the snapshot, each byte of it once. Raises HandshakeError."""
    regions = regions_in(message, lambda entry: region_of(entry, _page_bytes(entry)))
    beyond = max(region.offset + region.size for region in regions)
    if beyond > snapshot_bytes:
        raise HandshakeError(f"a region ends at {beyond}, and the snapshot has {snapshot_bytes} bytes")
    total = sum(region.size for region in regions)
    if total != snapshot_bytes:
        raise HandshakeError(f"its regions have {total} bytes together, and the snapshot {snapshot_bytes}")
    return regions


def _page_bytes(entry: dict[str, Any]) -> int:
    """Of `page_size`, or of `page_size_kib`, in which older VMMs say the same number of bytes."""
    said = {key: whole_number(entry, key) for key in ("page_size", "page_size_kib") if key in entry}
    if not said:
        raise HandshakeError("a region has neither page_size nor page_size_kib")
    if len(set(said.values())) > 1:
        raise HandshakeError(f"a region's page_size is {said['page_size']} and its page_size_kib {said['page_size_kib']}")
    size = next(iter(said.values()))
    if not 4096 <= size <= MOST_PAGE_BYTES or size & (size - 1):
        raise HandshakeError(f"a region's page size is {size}: a power of two from 4096 to {MOST_PAGE_BYTES} bytes is supported")
    return size


def _of_descriptor(descriptor: int) -> tuple[int, int]:
    """Flags and features of a userfaultfd, as the kernel shows them."""
    text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    flags = re.search(r"^flags:\s*([0-7]+)$", text, re.MULTILINE)
    features = re.search(r"^API:\s*[0-9a-f]+:([0-9a-f]+):", text, re.MULTILINE)
    return int(flags.group(1), 8) if flags else 0, int(features.group(1), 16) if features else 0
