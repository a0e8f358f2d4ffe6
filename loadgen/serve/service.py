"""The loop of `loadgen-serve`: it listens, shakes hands, serves every VMM that comes, and notices those that go."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Collection
from typing import Any, Protocol

from loadgen.serve.foreign_vmm import Asked, Ended, ForeignVmm
from workers.protocol.foreign import Hello, Listening
from workers.protocol.handshake import HandshakeError, peer_of
from workers.protocol.socket_folder import LONGEST_PATH

HANDSHAKE_S = 5.0
LOOK_S = 0.25
MOST_PEERS = 1024
EXTENSION = (
    "it has sent {} bytes after its message: messages on the connection, as those about pages mapped from a file, are an "
    "extension that is not supported"
)


class Observer(Protocol):
    """Receives what happens."""

    def began(self, vmm: ForeignVmm) -> None: ...
    def refused(self, pid: int, reason: str) -> None: ...
    def look(self, vmms: Collection[ForeignVmm]) -> None: ...
    def ended(self, vmm: ForeignVmm, ended: Ended, why: str) -> None: ...


class Service:
    """Listens at once. Raises ValueError where the socket cannot be made, or another process has it."""

    def __init__(self, path: str, snapshot: Any, asked: Asked, observer: Observer, uids: Collection[int], once: bool) -> None:
        self._snapshot, self._asked, self._observer, self._once = snapshot, asked, observer, once
        self._uids = {os.getuid(), *uids}
        self._path, self._number = path, 0
        self._listener = _listen(path, others=self._uids != {os.getuid()})
        self._peers: dict[int, tuple[Listening, tuple[int, int], float]] = {}
        self._vmms: dict[int, ForeignVmm] = {}
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)

    def run(self, wake_fd: int, stopped: Callable[[], bool]) -> None:
        """Until `stopped`, which a byte on `wake_fd` says to ask, or with `once` until the first VMM has gone."""
        self._poll.register(wake_fd, select.POLLIN)
        try:
            while not stopped() and not (self._once and self._number and not self._vmms):
                for descriptor, _ in self._poll.poll(LOOK_S * 1000):
                    if descriptor == self._listener.fileno():
                        self._accept()
                    elif descriptor in self._peers:
                        self._listen_to(descriptor)
                    elif descriptor in self._vmms:
                        self._look_at(self._vmms[descriptor])
                self._look()
        finally:
            self._close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # out of descriptors: the peer stays in the queue
            time.sleep(LOOK_S)
            return
        pid, uid = peer_of(connection)
        if self._once and self._vmms:
            reason = "another VMM is served, and --once serves one"
        elif uid not in self._uids:
            reason = f"uid {uid} may not connect: name it in --allow-uids"
        elif len(self._peers) >= MOST_PEERS:
            reason = f"more than {MOST_PEERS} peers at once"
        else:
            connection.setblocking(False)
            self._peers[connection.fileno()] = (Listening(connection, self._snapshot.bytes), (pid, uid), time.monotonic())
            self._poll.register(connection, select.POLLIN)
            return
        connection.close()
        self._observer.refused(pid, reason)

    def _listen_to(self, descriptor: int) -> None:
        listening, peer, _ = self._peers[descriptor]
        try:
            hello = listening.read()
            if hello is None:
                return
            self._peers.pop(descriptor)
            self._begin(listening.connection, peer, hello)
        except BlockingIOError:
            return
        except (HandshakeError, OSError, ValueError) as error:
            self._refuse(descriptor, listening, peer[0], str(error))

    def _begin(self, connection: socket.socket, peer: tuple[int, int], hello: Hello) -> None:
        try:
            vmm = ForeignVmm(self._number + 1, connection, peer, hello, self._snapshot, self._asked)
        except BaseException:
            os.close(hello.uffd)
            raise
        self._number += 1
        self._vmms[connection.fileno()] = vmm
        self._observer.began(vmm)

    def _refuse(self, descriptor: int, listening: Listening, pid: int, reason: str) -> None:
        self._peers.pop(descriptor, None)
        self._poll.unregister(descriptor)
        listening.close()
        listening.connection.close()
        self._observer.refused(pid, reason)

    def _look_at(self, vmm: ForeignVmm) -> None:
        """It has gone, or says something that it should not."""
        data = b""
        with contextlib.suppress(ConnectionError):
            data = vmm.connection.recv(4096)
        if data:
            self._end(vmm, EXTENSION.format(len(data)), failed=True)
        else:
            self._end(vmm, "the VMM has closed its connection")

    def _look(self) -> None:
        now = time.monotonic()
        for descriptor, (listening, (pid, _), since) in list(self._peers.items()):
            if now - since > HANDSHAKE_S:
                self._refuse(descriptor, listening, pid, "timed out before its message was whole")
        for vmm in list(self._vmms.values()):
            if vmm.trouble:
                self._end(vmm, vmm.trouble)
        self._observer.look(self._vmms.values())

    def _end(self, vmm: ForeignVmm, why: str, failed: bool = False) -> None:
        descriptor = vmm.connection.fileno()
        self._poll.unregister(descriptor)
        del self._vmms[descriptor]
        ended = vmm.end()
        if failed:
            ended.status, ended.reason = "failed", why
        self._observer.ended(vmm, ended, ended.reason or why)

    def _close(self) -> None:
        self._listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        for descriptor, (listening, (pid, _), _since) in list(self._peers.items()):
            self._refuse(descriptor, listening, pid, "the page server ends")
        for vmm in list(self._vmms.values()):
            self._end(vmm, "the page server has ended")


def _listen(path: str, *, others: bool) -> socket.socket:
    """A listening socket, for its own user alone unless there are others. Raises ValueError with the path."""
    if not 0 < len(os.fsencode(path)) <= LONGEST_PATH:
        raise ValueError(f"--socket {path}: the path of a Unix socket has 1 to {LONGEST_PATH} bytes: use a shorter one")
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o111 if others else 0o177)
        try:
            listener.bind(path)
        except OSError as error:
            raise ValueError(f"--socket {path}: the socket cannot be made: {error.strerror}") from None
        finally:
            os.umask(before)
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """The socket of a process that has gone. Raises ValueError for anything else."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ValueError(f"--socket {path}: a file that is no socket is there: remove it, or give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise ValueError(f"--socket {path}: another process listens there: end it, or give another path")
