"""One message of the handshake off a socket: its bytes up to the end of the JSON value, and the descriptors that came with it."""

from __future__ import annotations

import array
import os
import re
import select
import socket
import time

from workers.protocol.handshake import MAX_MESSAGE_BYTES, HandshakeError

SILENT = "timed out before a message"
GONE = "disconnected"
SPACE = b" \t\n\r"
TOKEN = re.compile(rb'[\[\]{}"]')
STRING_END = re.compile(rb'\\.|"', re.DOTALL)


class Closing(HandshakeError):
    """The acceptor closes while a peer is still talking."""


class JsonEnd:
    """Finds where a JSON array or object ends, in pieces, and looks at each byte once.

    Text that does not begin with a bracket ends at once: the parser refuses it.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, piece: bytes) -> bool:
        """Whether the value ends in this piece."""
        if self._depth == 0:
            piece = piece.lstrip(SPACE)
            if not piece:
                return False
            if piece[:1] not in b"[{":
                return True
        at = 0
        while at < len(piece):
            if self._escaped:
                self._escaped = False
                at += 1
            elif self._in_string:
                at = self._leave_string(piece, at)
            else:
                found = TOKEN.search(piece, at)
                if found is None:
                    return False
                at = found.end()
                if self._turn(found.group()):
                    return True
        return False

    def _leave_string(self, piece: bytes, at: int) -> int:
        for found in STRING_END.finditer(piece, at):
            if found.group() == b'"':
                self._in_string = False
                return found.end()
        self._escaped = _odd_backslashes(piece, at)
        return len(piece)

    def _turn(self, token: bytes) -> bool:
        if token == b'"':
            self._in_string = True
            return False
        self._depth += 1 if token in b"[{" else -1
        return self._depth <= 0


def _odd_backslashes(piece: bytes, since: int) -> bool:
    tail = piece[since:]
    return (len(tail) - len(tail.rstrip(b"\\"))) % 2 == 1


def readable(connection: socket.socket, stop: int, seconds: float | None) -> bool:
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
    connection: socket.socket, stop: int, deadline: float, most_descriptors: int, expected: str
) -> tuple[bytes, list[int]]:
    """A message and its descriptors, before the deadline (time.monotonic) and before the eventfd `stop` is written.

    More than `most_descriptors` are refused as soon as one arrives; `expected` names what may come. Raises HandshakeError and
    OSError; then no descriptor is left open.
    """
    message = bytearray()
    descriptors: list[int] = []
    end = JsonEnd()
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not readable(connection, stop, left):
                raise HandshakeError(SILENT if not message else "stopped in the middle of a message")
            data, received, cut_off = receive_now(connection, most_descriptors + 1)
            descriptors += received
            if cut_off or len(descriptors) > most_descriptors:
                raise HandshakeError(f"expected {expected}, got more")
            if not data:
                raise HandshakeError(GONE if not message else "disconnected half way through a message")
            message += data
            if len(message) > MAX_MESSAGE_BYTES:
                raise HandshakeError(f"the message is longer than {MAX_MESSAGE_BYTES} bytes")
            if end.feed(data):
                return bytes(message), descriptors
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def receive_now(connection: socket.socket, most: int) -> tuple[bytes, list[int], bool]:
    """What can be read at once: bytes, at most `most` descriptors, and whether the kernel closed some that had no room."""
    space = socket.CMSG_SPACE(most * array.array("i").itemsize)
    data, ancillary, flags, _ = connection.recvmsg(MAX_MESSAGE_BYTES + 1, space, socket.MSG_CMSG_CLOEXEC)
    received = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    return data, list(received), bool(flags & socket.MSG_CTRUNC)
