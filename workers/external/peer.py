"""The VMM's side of a connection to a fault handler: it hands the userfaultfd over, watches that the handler is there, and looks
at what it uses. Nothing of it is on the path of a fault."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from workers.external.handler import HandlerError
from workers.external.processes import ThreadUse, Use, family, holds_userfaultfd, state_of, use_of
from workers.protocol.handshake import Region, peer_of
from workers.protocol.published import hand_over

SHOWN_BYTES = 60
MOST_BYTES = 4096
END_S = 0.5
"""How long after its connection has closed a process that is ending may take to be gone."""


class HandlerPeer:
    """A handler that was handed a userfaultfd. `watch` it, `begin` and `report` around the measured phase, `close`."""

    def __init__(self, path: str, uffd: int, regions: Sequence[Region], form: str) -> None:
        """Raises HandlerError when the handler does not take it."""
        try:
            self._connection = hand_over(path, uffd, regions, form)
        except OSError as error:
            refused = error.errno in (errno.EPIPE, errno.ECONNRESET)
            how = "refused the VMM" if refused else "cannot be reached"
            raise HandlerError(f"the handler {how} at {path}: {error.strerror or error}") from None
        self.pid, _ = peer_of(self._connection)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._pidfd = -1
        with suppress(OSError):  # 0: it is in another pid namespace; or it has just ended
            self._pidfd = os.pidfd_open(self.pid)
        self._thread: threading.Thread | None = None
        self._hung_up_at = 0.0
        self._family, self._before = family(self.pid), Use()

    def watch(self, stop: Callable[[str], None]) -> None:
        """From now on: `stop` is called with the reason when the handler ends, refuses, or asks for what is not supported."""
        self._thread = threading.Thread(target=self._watch, args=(stop,), name="handler watch", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """The measured phase begins."""
        self._family = family(self.pid)
        self._before = use_of(self.pid)

    def report(self, stuck: bool) -> dict[str, Any]:
        """What the handler used since `begin`: `threads` as rows of the table of that name without their place; `state`, when
        the run is `stuck`: what can be seen of the handler, in words."""
        now = use_of(self.pid)
        rows = [_row(number, tid, self._before.threads.get(tid), use) for number, (tid, use) in enumerate(now.threads.items())]
        return {
            "host": socket.gethostname(),
            "pid": self.pid,
            "peak_bytes": now.peak_bytes,
            "threads": rows,
            "state": self._state() if stuck else "",
        }

    def close(self) -> None:
        """Stop watching and close the connection; idempotent."""
        if self._stop < 0:
            return
        os.eventfd_write(self._stop, 1)
        if self._thread is not None:
            self._thread.join()
        for descriptor in (self._stop, self._pidfd):
            if descriptor >= 0:
                os.close(descriptor)
        self._stop = self._pidfd = -1
        self._connection.close()

    def _watch(self, stop: Callable[[str], None]) -> None:
        waiting = select.poll()
        for descriptor in (self._stop, self._connection.fileno(), self._pidfd):
            if descriptor >= 0:
                waiting.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in waiting.poll()}
            if self._stop in ready:
                return
            if self._pidfd in ready:
                stop(
                    f"the handler (pid {self.pid}) ended while it served: the VMM would sleep for ever, and does not hand its "
                    "userfaultfd to one that is started again"
                )
                return
            if self._connection.fileno() in ready:
                waiting.unregister(self._connection.fileno())
                self._heard(stop)

    def _heard(self, stop: Callable[[str], None]) -> None:
        """Something came over the connection, which is to stay open and silent."""
        said = b""
        with suppress(OSError):
            said = self._connection.recv(MOST_BYTES)
        if said:
            shown = said[:SHOWN_BYTES].decode(errors="replace")
            stop(
                f"the handler (pid {self.pid}) sent a message to the VMM ({shown!r}): answers by mapping a file range over the "
                "page are not supported, only UFFDIO_COPY and UFFDIO_ZEROPAGE"
            )
            return
        self._hung_up_at = time.monotonic()
        ends = self._pidfd < 0 or _ended(self._pidfd, END_S)
        if ends or holds_userfaultfd(self.pid) is not False:
            return
        lost = self._lost()
        how = f"does not serve any longer: {lost}" if lost else "refused the VMM: it closed the connection"
        stop(f"the handler (pid {self.pid}) {how} and holds no userfaultfd")

    def _lost(self) -> str:
        """How many processes of a handler of several have ended; empty: none."""
        known = {*self._family, *family(self.pid)}
        ended = sum(state_of(pid) == "has ended" for pid in known)
        return f"{ended} of its {len(known)} processes ended" if ended else ""

    def _unread(self) -> bool:
        """Whether the message still lies in the connection, where the handler has not come for it."""
        left = fcntl.ioctl(self._connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        return bool(struct.unpack("i", left)[0])

    def _state(self) -> str:
        """What can be seen of a handler that has left a fault unanswered."""
        state = state_of(self.pid)
        if state != "runs":
            return f"the handler (pid {self.pid}) {state}"
        known = [f"the handler (pid {self.pid}) runs", *filter(None, [self._lost()])]
        if self._unread():
            known.append("it has not read the VMM's message: it serves no VMM, or another one")
        elif holds_userfaultfd(self.pid) is False:
            known.append(
                "it has closed its userfaultfd (where the VMM has closed its own too, missing pages silently become zero pages)"
            )
        else:
            known.append("it holds the userfaultfd and left the fault unanswered")
        if self._hung_up_at:
            known.append(f"it closed the connection {time.monotonic() - self._hung_up_at:.1f} s ago")
        return ", ".join(known)


def _ended(pidfd: int, seconds: float) -> bool:
    """Whether the process ends within the time."""
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def _row(number: int, tid: int, before: ThreadUse | None, now: ThreadUse) -> dict[str, Any]:
    """A thread's columns of `threads`; the ticks of user and system time split the exact sum."""
    since = {name: value - (getattr(before, name) if before else 0) for name, value in vars(now).items()}
    ticks = since["user_ticks"] + since["system_ticks"]
    user_ns = round(since["cpu_ns"] * (since["user_ticks"] / ticks)) if ticks else 0
    return {
        "role": "handler",
        "number": number,
        "tid": tid,
        "user_ns": user_ns,
        "system_ns": since["cpu_ns"] - user_ns,
        "voluntary_switches": since["voluntary"],
        "involuntary_switches": since["involuntary"],
        "minor_faults": since["minor_faults"],
        "major_faults": since["major_faults"],
    }
