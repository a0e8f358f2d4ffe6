"""The page server's side of the handshake: it listens, checks every field, and hands out connections.

A bad peer gets its connection closed and its reason is kept; other peers do not notice.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from workers.protocol.handshake import (
    HandshakeError,
    Region,
    parse_extras,
    parse_regions,
    peer_of,
    refuse_all_but_userfaultfd,
    refuse_shrinking,
)
from workers.protocol.receive import GONE, SILENT, Closing, readable, receive_message
from workers.protocol.socket_folder import SocketFolder

MAX_PEERS = 256
KEPT_REFUSALS = 32
REFUSAL_LENGTH = 400
ACCEPT_AGAIN_S = 0.1
EXTRAS_WAIT_S = 0.2


@dataclass
class Connection:
    """One accepted peer: its userfaultfd (owned by us), regions, and what our own VMM processes add (-1: not sent)."""

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


class Acceptor:
    """Listens in a private directory and turns good peers into connections. A thread of its own; one more a peer, briefly."""

    def __init__(self, page_bytes: int, region_bytes: int, *, allow_uids: Collection[int] = (), timeout_s: float = 10.0) -> None:
        self._page_bytes = page_bytes
        self._region_bytes = region_bytes
        self._uids = {os.getuid(), *allow_uids}
        self._timeout_s = timeout_s
        self._lock = threading.Condition()
        self._connections: list[Connection] = []
        self._refused: list[str] = []
        self._refused_more = 0
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

    @property
    def refused(self) -> list[str]:
        """Why peers were refused: the first ones, and how many more there were."""
        more = [f"{self._refused_more} more were refused"] if self._refused_more else []
        return [*self._refused, *more]

    def _why(self) -> str:
        return f"; refused: {'; '.join(self.refused)}" if self._refused else ""

    def _accept(self) -> None:
        with contextlib.suppress(Closing):
            while True:
                readable(self._listener, self._stop, None)
                try:
                    peer, _ = self._listener.accept()
                except OSError as error:  # out of descriptors: the peer stays in the queue, and this thread must not spin
                    reason = f"not accepted for now: {error}"
                    if reason not in self._refused:
                        self._refuse(reason)
                    self._pause()
                    continue
                self._peers = [other for other in self._peers if other.is_alive()]
                if len(self._peers) >= MAX_PEERS:
                    peer.close()
                    self._refuse(f"more than {MAX_PEERS} peers at once")
                    continue
                thread = threading.Thread(target=self._serve, args=(peer,), name="handshake peer", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the process may have no more threads
                    peer.close()
                    self._refuse(f"a thread for the peer could not be started: {error}")
                    continue
                self._peers.append(thread)

    def _pause(self) -> None:
        waiting = select.poll()
        waiting.register(self._stop, select.POLLIN)
        waiting.poll(ACCEPT_AGAIN_S * 1000)

    def _refuse(self, reason: str) -> None:
        with self._lock:
            if len(self._refused) < KEPT_REFUSALS:
                self._refused.append(reason[:REFUSAL_LENGTH])
            else:
                self._refused_more += 1
            self._lock.notify_all()

    def _serve(self, peer: socket.socket) -> None:
        pid, uid = peer_of(peer)
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
        deadline = time.monotonic() + self._timeout_s / 2
        message, descriptors = receive_message(peer, self._stop, deadline, 1, "one descriptor with the regions")
        try:
            regions = parse_regions(message, self._page_bytes, self._region_bytes)
            if len(descriptors) != 1:
                raise HandshakeError(f"expected one descriptor with the regions, got {len(descriptors)}")
            refuse_all_but_userfaultfd(descriptors[0])
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
            deadline = time.monotonic() + seconds
            message, descriptors = receive_message(peer, self._stop, deadline, 2, "two descriptors with the second message")
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
