"""The handshake: a VMM process hands its userfaultfd to the page server over a Unix stream socket.

First message (the one Firecracker sends): a JSON array of regions with the userfaultfd in SCM_RIGHTS. Second message, ours
alone and waited for only briefly: a JSON object with a magic and a version, and the memfds of page record and fault records.
One connection is one userfaultfd. Everything a peer says is checked here; a bad peer gets its connection closed, its reason
is kept, and nobody else notices.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from workers.socket_folder import SocketFolder

MAGIC = "uffd-loadgen"
VERSION = 1
MAX_MESSAGE_BYTES = 65_536
MAX_DESCRIPTORS = 8
MAX_PEERS = 256
ACCEPT_AGAIN_S = 0.1
EXTRAS_WAIT_S = 0.2
ADDRESS_LIMIT = 1 << 64

SILENT = "said nothing in time"
GONE = "disconnected"


class HandshakeError(Exception):
    """A peer broke the protocol; the text says how."""


class Closing(HandshakeError):
    """The acceptor closes while a peer is still talking."""


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


@dataclass
class Connection:
    """One accepted peer: its userfaultfd (owned by us), regions, and what our own VMM processes add (-1: not said)."""

    uffd: int
    regions: list[Region]
    vmm: int = -1
    shard: int = -1
    record_fd: int = -1
    faults_fd: int = -1
    socket: socket.socket | None = field(default=None, repr=False)

    def close(self) -> None:
        """Close every descriptor; idempotent."""
        for name in ("uffd", "record_fd", "faults_fd"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)
        if self.socket is not None:
            self.socket.close()
            self.socket = None


@dataclass(frozen=True)
class Extras:
    """What our own VMM processes add: who they are, and the memfds of page record and fault records."""

    vmm: int
    shard: int
    record_fd: int
    faults_fd: int

    def close(self) -> None:
        """Close both descriptors; once."""
        os.close(self.record_fd)
        os.close(self.faults_fd)


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
    _refuse_overlap(regions, "base_host_virt_addr", "addresses")
    _refuse_overlap(regions, "offset", "offsets")
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


def _refuse_overlap(regions: Sequence[Region], key: str, what: str) -> None:
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
    """Hand a userfaultfd over; the connection stays open as long as the VMM process wants to be served.

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


def _readable(connection: socket.socket, stop: int, seconds: float | None) -> bool:
    """Whether there is something to read before `seconds` are over (None: whenever that is). Raises Closing at `stop`.

    poll, not select: a page server of many userfaultfds has descriptors past select's 1024.
    """
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    waiting.register(stop, select.POLLIN)
    ready = dict(waiting.poll(None if seconds is None else seconds * 1000))
    if stop in ready:
        raise Closing("the page server closed before the handshake was over")
    return bool(ready)


def receive_message(
    connection: socket.socket, stop: int, deadline: float, complete: Callable[[bytes], bool]
) -> tuple[bytes, list[int]]:
    """Bytes and descriptors until `complete` says so, the deadline has passed or the eventfd `stop` is written.

    Raises HandshakeError and OSError; then no descriptor is left open.
    """
    message = b""
    descriptors: list[int] = []
    try:
        while not complete(message):
            left = deadline - time.monotonic()
            if left <= 0 or not _readable(connection, stop, left):
                raise HandshakeError(SILENT if not message else "stopped in the middle of a message")
            data, ancillary, _, _ = connection.recvmsg(
                MAX_MESSAGE_BYTES + 1, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
            )
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received = array.array("i")
                    received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
                    descriptors += received
            if not data:
                raise HandshakeError(GONE if not message else "disconnected half way through a message")
            message += data
            if len(message) > MAX_MESSAGE_BYTES:
                raise HandshakeError(f"the message is longer than {MAX_MESSAGE_BYTES} bytes")
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return message, descriptors


def whole_json(message: bytes) -> bool:
    """A JSON value is whole when it parses; text that cannot become JSON any more is whole too: it is refused by the parser.

    A read may end anywhere, in the middle of a literal or of a character too; an array or object ends with its bracket.
    """
    text = message.strip()
    if not text:
        return False
    if text[:1] not in b"[{":
        return True
    if text[-1:] not in b"]}":
        return False
    try:
        json.loads(text)
    except RecursionError:
        return True
    except UnicodeDecodeError:
        return True
    except json.JSONDecodeError as error:
        return error.pos < len(error.doc) and not error.msg.startswith("Unterminated")
    return True


class Acceptor:
    """Listens in a private directory and turns good peers into connections. A thread of its own; one more a peer, briefly."""

    def __init__(self, page_bytes: int, region_bytes: int, *, allow_uids: Collection[int] = (), timeout_s: float = 10.0) -> None:
        self._page_bytes = page_bytes
        self._region_bytes = region_bytes
        self._uids = {os.getuid(), *allow_uids}
        self._timeout_s = timeout_s
        self._lock = threading.Condition()
        self._connections: list[Connection] = []
        self.refused: list[str] = []
        self._folder = SocketFolder()
        self.path = str(self._folder.path / "page-server.sock")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(self.path)
            if self._uids != {os.getuid()}:  # other uids were named: they must be able to reach it; SO_PEERCRED decides
                self._folder.path.chmod(0o711)
                os.chmod(self.path, 0o666)
            self._listener.listen(1024)
            self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        except BaseException:
            self._listener.close()
            self._folder.remove()
            raise
        self._peers: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, name="handshake", daemon=True)
        self._thread.start()

    def wait_for(self, count: int) -> list[Connection]:
        """The first `count` good connections. Raises HandshakeError when they have not come within the time-out."""
        with self._lock:
            if not self._lock.wait_for(lambda: len(self._connections) >= count, self._timeout_s):
                raise HandshakeError(
                    f"{len(self._connections)} of {count} userfaultfds arrived within {self._timeout_s:g} s{self._why()}"
                )
            return self._connections[:count]

    def wait_for_vmms(self, vmms: int, shards: int) -> list[Connection]:
        """One connection for each shard of each VMM process of ours, in this order; others that came are left aside.

        Raises HandshakeError, which names the VMM processes that are missing when the time is out.
        """
        expected = [(vmm, shard) for vmm in range(vmms) for shard in range(shards)]
        with self._lock:
            self._lock.wait_for(lambda: self._named().keys() >= set(expected), self._timeout_s)
            named = self._named()
            missing = [key for key in expected if key not in named]
            if missing:
                of = ", ".join(str(vmm) for vmm in dict.fromkeys(vmm for vmm, _ in missing))
                foreign = sum(connection.vmm < 0 for connection in self._connections)
                unnamed = f"; {foreign} came from VMM processes that are not ours" if foreign else ""
                raise HandshakeError(
                    f"{len(expected) - len(missing)} of {len(expected)} userfaultfds arrived within {self._timeout_s:g} s, "
                    f"missing from VMM processes {of}{unnamed}{self._why()}"
                )
            return [named[key] for key in expected]

    def close(self) -> None:
        """Stop listening, close every connection, remove the socket; idempotent."""
        if self._stop < 0:
            return
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        for peer in self._peers:
            peer.join()
        os.close(self._stop)
        self._stop = -1
        self._listener.close()
        for connection in self._connections:
            connection.close()
        self._folder.remove()

    def _named(self) -> dict[tuple[int, int], Connection]:
        return {(connection.vmm, connection.shard): connection for connection in self._connections}

    def _why(self) -> str:
        return f"; refused: {'; '.join(self.refused)}" if self.refused else ""

    def _accept(self) -> None:
        with contextlib.suppress(Closing):
            while True:
                _readable(self._listener, self._stop, None)
                try:
                    peer, _ = self._listener.accept()
                except OSError as error:  # out of descriptors: the peer stays in the queue, and this thread must not spin
                    reason = f"not accepted for now: {error}"
                    if reason not in self.refused:
                        self._refuse(reason)
                    self._pause()
                    continue
                self._peers = [other for other in self._peers if other.is_alive()]
                if len(self._peers) >= MAX_PEERS:
                    peer.close()
                    self._refuse(f"more than {MAX_PEERS} peers at once")
                    continue
                thread = threading.Thread(target=self._serve, args=(peer,), name="handshake peer", daemon=True)
                self._peers.append(thread)
                thread.start()

    def _pause(self) -> None:
        waiting = select.poll()
        waiting.register(self._stop, select.POLLIN)
        waiting.poll(ACCEPT_AGAIN_S * 1000)

    def _refuse(self, reason: str) -> None:
        with self._lock:
            self.refused.append(reason)
            self._lock.notify_all()

    def _serve(self, peer: socket.socket) -> None:
        pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        try:
            if uid not in self._uids:
                raise HandshakeError(f"uid {uid} may not connect; name it in page_server.allow_uids")
            connection = self._shake(peer)
        except (HandshakeError, OSError) as error:
            peer.close()
            self._refuse(f"pid {pid}: {error}")
            return
        if connection.vmm < 0:  # a foreign VMM, or one of ours that was held up between its two messages
            try:
                self._name(connection, self._extras(peer, self._timeout_s))
            except Closing:
                pass
            except (HandshakeError, OSError) as error:
                if str(error) != GONE:  # a foreign VMM may end when it likes
                    self._refuse(f"pid {pid}: {error}; it is served as a VMM that is not ours")

    def _shake(self, peer: socket.socket) -> Connection:
        message, descriptors = receive_message(peer, self._stop, time.monotonic() + self._timeout_s / 2, whole_json)
        try:
            regions = parse_regions(message, self._page_bytes, self._region_bytes)
            if len(descriptors) != 1:
                raise HandshakeError(f"expected one descriptor with the regions, got {len(descriptors)}")
            target = os.readlink(f"/proc/self/fd/{descriptors[0]}")
            if target != "anon_inode:[userfaultfd]":
                raise HandshakeError(f"the descriptor is no userfaultfd but {target}")
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        connection = Connection(uffd=descriptors[0], regions=regions, socket=peer)
        try:
            self._name(connection, self._extras(peer, EXTRAS_WAIT_S))
        except BaseException:
            connection.socket = None
            connection.close()
            raise
        with self._lock:
            self._connections.append(connection)
            self._lock.notify_all()
        return connection

    def _name(self, connection: Connection, extras: Extras | None) -> None:
        """The connection is that of a VMM process of ours. Raises HandshakeError when another is it already."""
        if extras is None:
            return
        with self._lock:
            if (extras.vmm, extras.shard) in self._named():
                extras.close()
                raise HandshakeError(f"VMM process {extras.vmm} handed its userfaultfd {extras.shard} over before")
            connection.vmm, connection.shard = extras.vmm, extras.shard
            connection.record_fd, connection.faults_fd = extras.record_fd, extras.faults_fd
            self._lock.notify_all()

    def _extras(self, peer: socket.socket, seconds: float) -> Extras | None:
        """What a VMM process of ours adds, within `seconds`. A foreign one sends no second message and is served without."""
        try:
            message, descriptors = receive_message(peer, self._stop, time.monotonic() + seconds, whole_json)
        except HandshakeError as error:
            if str(error) == SILENT:
                return None
            raise
        try:
            vmm, shard = parse_extras(message)
            if len(descriptors) != 2:
                raise HandshakeError(f"expected two descriptors with the second message, got {len(descriptors)}")
            for descriptor, what in zip(descriptors, ("page record", "fault records"), strict=True):
                refuse_shrinking(descriptor, what)
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        return Extras(vmm, shard, *descriptors)
