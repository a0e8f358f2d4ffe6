"""One foreign VMM that is served: a page server of the core on its userfaultfd, until it goes or the command ends."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from workers import _native
from workers.protocol.foreign import Hello


@dataclass(frozen=True)
class Asked:
    """How VMMs are served. `working_set`: pages to prefetch, in their order; `fault_records`: most records kept of a VMM."""

    readers: int = 1
    wait: str = "poll"
    fault_around: int = 1
    wake_first: bool = False
    prefetch: str = "none"
    working_set: tuple[int, ...] = ()
    prefetch_mib_per_s: float = 0.0
    delay_us: float = 0.0
    fault_records: int = 0


@dataclass
class Ended:
    """What a VMM came to: how it ended, and what its page server counted."""

    status: str
    reason: str
    counters: dict[str, int]
    threads: list[dict[str, Any]]
    page_states: dict[str, int]
    faults: npt.NDArray[np.void]
    tids: npt.NDArray[np.uint32]
    prefetch_marks: dict[str, Any] = field(default_factory=dict)


class ForeignVmm:
    """`number` of the VMM, from 1; `pid` and `uid` of its process. The constructor takes the hello's userfaultfd and begins to
    serve. Raises OSError and ValueError; then the userfaultfd is the caller's still."""

    def __init__(
        self, number: int, connection: socket.socket, peer: tuple[int, int], hello: Hello, snapshot: Any, asked: Asked
    ) -> None:
        self.number, self.hello, self.connection = number, hello, connection
        self.pid, self.uid = peer
        self.began_s = time.time()
        self._guest = _native.Guest(
            {
                "memory_type": "anon",  # installed by UFFDIO_COPY, whatever it is in the VMM
                "region_bytes": snapshot.bytes,
                "page_bytes": hello.page_bytes,
                "server_threads": asked.readers + 1,
            }
        )
        self._server = _native.PageServer(self._guest, _config(asked, hello, snapshot))
        self._server.add_userfaultfd(
            hello.uffd, [region.as_json() for region in hello.regions], vmm=-1, record_fd=-1, faults_fd=-1
        )
        self._failure = ""
        self._thread = threading.Thread(target=self._serve, name=f"VMM {number}", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why it cannot be served any longer; empty: it can."""
        return self._failure or self._guest.stop_reason()

    def counters(self) -> dict[str, int]:
        """What its page server has counted so far."""
        return self._server.counters()

    def end(self) -> Ended:
        """Stop serving: what is raised is answered, every other sleeper is woken. Descriptors and memory are given back."""
        self._server.stop()
        self._thread.join()
        trouble = self.trouble
        records, tids = self._server.logged_faults()
        ended = Ended(
            "failed" if trouble else "ok",
            trouble,
            self._server.counters(),
            self._server.threads(),
            self._server.page_states(),
            np.frombuffer(records, _native.FAULT_DTYPE),
            np.frombuffer(tids, np.uint32),
            self._server.prefetch_marks(),
        )
        os.close(self.hello.uffd)
        self.connection.close()
        del self._server, self._guest
        return ended

    def _serve(self) -> None:
        try:
            self._server.serve()
        except (OSError, ValueError, RuntimeError) as error:
            self._failure = str(error)


def _config(asked: Asked, hello: Hello, snapshot: Any) -> dict[str, Any]:
    pages = snapshot.bytes // hello.page_bytes
    return {
        "readers": asked.readers,
        "wait": asked.wait,
        "delay_us": asked.delay_us,
        "fault_around_pages": asked.fault_around,
        "wake_first": asked.wake_first,
        "track_removes": hello.tracks_removes,
        "log_faults": min(asked.fault_records, 4 * pages),
        "source": {"name": "mapped", "mapped": snapshot},
        "prefetch": {
            "name": asked.prefetch,
            "pages": [page for page in asked.working_set if page < pages],
            "mib_per_s": asked.prefetch_mib_per_s,
        },
    }
