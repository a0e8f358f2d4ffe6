"""The page server's actor: it makes the guest, takes the VMM processes' userfaultfds, and serves while a run is measured.

Under an external handler the VMM processes hand their userfaultfds to that, and this only starts, explains and ends it.

One that was killed is succeeded by another: `take_over` in the place of `open`, then `serve` as before."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import time
from typing import Any

import numpy as np

from workers import _native
from workers.actor import Actor
from workers.attach import attach
from workers.external.handler import Handler
from workers.kinds import page_kinds
from workers.protocol.acceptor import Acceptor, Connection
from workers.protocol.handshake import HandshakeError
from workers.protocol.source_address import split_address
from workers.registry import pages_in_role, strategy_entry
from workers.reports import GuestAddress, ServerReport
from workers.snapshot import Snapshots, Stamp
from workers.spec import RunSpec, native_access


class PageServer(Actor):
    """One guest at a time: `open`, `serve`, `finish`, `close`; then the next. A plain class; the driver makes an actor of it."""

    def __init__(self, deadman_s: float = 0.0) -> None:
        super().__init__(deadman_s)
        self._spec: RunSpec | None = None
        self._guest: _native.Guest | None = None
        self._server: _native.PageServer | None = None
        self._acceptor: Acceptor | None = None
        self._handler: Handler | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._snapshots = Snapshots()
        self._snapshot = ""
        self._stamp: Stamp | None = None
        self._successor = False

    def open(self, spec: RunSpec) -> tuple[GuestAddress, dict[str, Any]]:
        """Make the guest's memory, fill it, listen. Returns where it is and the fill report of the native core.

        Raises OSError (KernelError) and ValueError; then nothing of the guest is kept.
        """
        self.close()
        try:
            return self._open(spec)
        except BaseException:
            self.close()
            raise

    def _open(self, spec: RunSpec) -> tuple[GuestAddress, dict[str, Any]]:
        memory = spec.memory
        self._spec = spec
        self._guest = _native.Guest(
            {
                "memory_type": memory.type,
                "region_bytes": memory.region_bytes,
                "page_bytes": memory.page_bytes,
                "transparent_huge_pages": memory.transparent_huge_pages,
                "numa": memory.numa,
                "vcpus": spec.vcpus,
                "vcpus_per_vmm": spec.vcpus_per_vmm,
                "seed": spec.seed,
                "contents_seed": spec.source.seed,
                "contents_of_file": spec.source.contents_of_file,
                "rings": _rings(spec),
                "request_pages": pages_in_role(*_strategy(spec), "fault_around", "populate"),
                "gated": spec.gated,
                "poisoned_when_resolved": spec.fault_mix.poisoned_at == "resolved",
                "server_threads": _server_threads(spec),
                "drops": spec.disturb.drops,
                "regions": memory.regions,
                "external": spec.page_server.external is not None,
            }
        )
        self._find_snapshot(spec)
        if spec.source.contents_of_file:
            self._guest.open_contents(self._snapshot)
            self._guest.set_touched_words(self._snapshots.touched_words(spec))
        filled = self._guest.fill(page_kinds(spec.fault_mix, memory.pages, spec.seed))
        return self._listen(spec, self._guest), filled

    def take_over(self, spec: RunSpec, held: GuestAddress) -> GuestAddress:
        """Go on with the guest of a page server that was killed, as a VMM process holds it, and listen for the userfaultfds.

        The dead one must be gone. Raises OSError (KernelError) and ValueError; then nothing of the guest is kept.
        """
        self.close()
        try:
            self._spec, self._successor = spec, True
            self._guest = attach(held, "the VMM process")
            self._find_snapshot(spec)
            return self._listen(spec, self._guest)
        except BaseException:
            self.close()
            raise

    def _find_snapshot(self, spec: RunSpec) -> None:
        self._snapshot = self._snapshots.path_for(spec) if _needs_snapshot(spec) else ""
        self._stamp = Stamp(self._snapshot, as_it_was=spec.source.contents_of_file) if self._snapshot else None

    def _listen(self, spec: RunSpec, guest: _native.Guest) -> GuestAddress:
        asked = spec.page_server
        if asked.external is not None:
            patience_s = min(asked.handshake_timeout_s, spec.watchdog_s or asked.handshake_timeout_s)
            self._handler = Handler(asked.external, self._snapshot, spec.run_id, patience_s)
            return GuestAddress(os.getpid(), guest.region_fd, guest.shared_fd, self._handler.path, self._snapshot)
        self._acceptor = Acceptor(
            spec.memory.page_bytes,
            spec.memory.region_bytes,
            allow_uids=asked.allow_uids,
            timeout_s=asked.handshake_timeout_s,
        )
        return GuestAddress(os.getpid(), guest.region_fd, guest.shared_fd, self._acceptor.path, self._snapshot)

    def serve(self) -> None:
        """Wait for every VMM process's userfaultfds, then serve in the background. Raises HandshakeError when one is missing."""
        spec, guest = self._opened()
        connections = self._connections(spec)
        asked = spec.page_server
        server = _native.PageServer(
            guest,
            {
                "readers": asked.readers_per_uffd * len(connections),
                "wait": asked.wait,
                "events_per_read": asked.events_per_read,
                "delay_us": asked.delay_us,
                "delay_exponential": asked.delay_distribution == "exponential",
                "seed": spec.seed,
                "fault_around_pages": pages_in_role(*_strategy(spec), "fault_around"),
                "wake_first": asked.wake_first,
                "track_removes": spec.disturb.balloon.tracks,
                "reader_cpus": [list(cpus) for cpus in spec.placement.reader_cpus],
                "source": self._source(spec),
                "successor": self._successor,
                "inject": dataclasses.asdict(asked.inject),
                "prefetch": _prefetch(spec),
            },
        )
        for connection in connections:
            server.add_userfaultfd(
                connection.uffd,
                [region.as_json() for region in connection.regions],
                vmm=connection.vmm,
                record_fd=connection.record_fd,
                faults_fd=connection.faults_fd,
            )
            if asked.inject.vanish_after_events:
                _replace_by_nothing(connection.uffd)
        self._server = server
        self._failure = None
        self._thread = threading.Thread(target=self._serve, args=(server,), name="page server", daemon=True)
        self._thread.start()

    def _connections(self, spec: RunSpec) -> list[Connection]:
        """One a userfaultfd that readers of ours are to serve."""
        if self._acceptor is None or not strategy_entry(spec.strategy.name)["userfaultfd"]:
            return []
        return self._acceptor.wait_for_vmms(spec.vmms, spec.userfaultfds_per_vmm)

    def armed(self, timeout_s: float) -> int:
        """Until every vCPU of a gated guest is at its barrier; CLOCK_MONOTONIC ns of this host then, 0 when the run was stopped
        before. Raises TimeoutError."""
        guest = self._opened()[1]
        if guest.wait_armed(timeout_s):
            return time.monotonic_ns()
        if guest.stop_reason():
            return 0
        raise TimeoutError(f"not every vCPU was at the start barrier after {timeout_s:g} s")

    def now(self) -> int:
        """CLOCK_MONOTONIC ns of this host."""
        return time.monotonic_ns()

    def release(self, at_ns: int, rounds: int) -> int:
        """Start the vCPUs of a gated guest at this time of this host's clock, into the last of so many rounds; by how many ns it
        was late. Nothing where that round has begun: a page server that was replaced may have started it."""
        guest = self._opened()[1]
        late_ns = time.monotonic_ns() - at_ns
        guest.release(at_ns, rounds)
        return max(0, late_ns)

    def round_finished(self, finished: int, timeout_s: float) -> float:
        """Until every vCPU of a gated guest has finished this many rounds: seconds measured so far, infinite when another round
        has no room; 0: not within the time, or the run was stopped."""
        guest = self._opened()[1]
        seconds = guest.wait_round(finished, timeout_s)
        return math.inf if seconds and guest.rounds_full() else seconds

    def decide_round(self, finished: int, another: bool) -> None:
        """Whether a gated guest has a round after the first `finished`."""
        self._opened()[1].decide_round(finished, another)

    def look(self) -> dict[str, Any]:
        """What the guest is doing now, as `_native.PageServer.look` returns it. Raises HandshakeError before `serve`."""
        if self._server is None:
            raise HandshakeError("the page server does not serve yet: serve comes first")
        return self._server.look()

    def abort(self, reason: str) -> None:
        """End the measured phase from outside: every vCPU of the guest comes back."""
        if self._guest is not None:
            self._guest.stop(reason)

    def stop_reason(self) -> str:
        """Why the run was stopped before its end; empty when it was not."""
        reason = self._opened()[1].stop_reason()
        return reason if self._handler is None else self._handler.explained(reason)

    def snapshot_change(self) -> str:
        """How the snapshot file of the latest guest has changed since it was opened; empty when it has not."""
        return "" if self._stamp is None else self._stamp.change()

    def finish(self) -> ServerReport:
        """Stop serving. Raises what a reader thread raised."""
        spec, guest = self._opened()
        server = self._stop_serving()
        if self._failure is not None:
            raise self._failure
        refused, ended = list(self._acceptor.refused) if self._acceptor is not None else [], guest.rounds_ended()
        if server is None:
            return ServerReport({}, [], refused)
        if self._handler is not None:
            return ServerReport({}, server.threads(), refused, rounds_ended=ended, handler_version=self._handler.version)
        prefetch = server.prefetch_marks() | _untouched(server, spec)
        return ServerReport(server.counters(), server.threads(), refused, server.source_counts(), prefetch, ended)

    def close(self) -> None:
        """Free everything of this run; the actor stays for the next. Idempotent."""
        if self._guest is not None:
            self._guest.stop("closed")
        self._stop_serving()
        if self._acceptor is not None:
            self._acceptor.close()
        if self._handler is not None:
            self._handler.close()
        self._server = self._acceptor = self._handler = self._guest = self._spec = None
        self._successor = False

    def _source(self, spec: RunSpec) -> dict[str, Any]:
        """The source as the native page server takes it. Raises ValueError for a remote one without an address."""
        asked = spec.source
        if asked.name == "file":
            return {"name": asked.name, "file": self._snapshot, "cold": asked.cache == "cold"}
        if asked.name == "remote":
            host, port = split_address(asked.address)
            keys = ("connections", "push", "batch_pages", "push_mib_per_s", "timeout_s", "retries")
            return {"name": asked.name, "host": host, "port": port} | {key: getattr(asked, key) for key in keys}
        return {"name": asked.name}

    def _opened(self) -> tuple[RunSpec, _native.Guest]:
        if self._spec is None or self._guest is None or (self._acceptor is None and self._handler is None):
            raise HandshakeError("the page server has no guest: open comes first")
        return self._spec, self._guest

    def _serve(self, server: _native.PageServer) -> None:
        try:
            server.serve()
        except BaseException as error:
            self._failure = error

    def _stop_serving(self) -> _native.PageServer | None:
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join()
            self._thread = None
        return self._server


def _needs_snapshot(spec: RunSpec) -> bool:
    """An external handler serves pages of a file whatever the source is; one that is found at its socket has its own."""
    external = spec.page_server.external
    return spec.source.name == "file" or (external is not None and bool(external.command))


def _untouched(server: _native.PageServer, spec: RunSpec) -> dict[str, int]:
    """How many pages the prefetcher has brought that no vCPU touches; empty without one."""
    brought = np.frombuffer(server.brought(), np.uint8)
    if not len(brought):
        return {}
    access = native_access(spec.access)
    touched = np.frombuffer(_native.touched_pages(access, spec.memory.pages, spec.vcpus, spec.seed), np.uint8)
    return {"prefetch_untouched": int(np.count_nonzero(brought & ~touched & 1))}


def _rings(spec: RunSpec) -> int:
    """Threads that answer vCPUs which exit: as many as readers, so that both ways to ask are served alike."""
    return min(spec.vcpus, max(1, len(spec.placement.reader_cpus)))


def _server_threads(spec: RunSpec) -> int:
    """Readers, the threads that answer requests, the prefetcher's, and one a connection to a remote source."""
    remote = spec.source.connections + spec.source.push if spec.source.name == "remote" else 0
    return spec.page_server.readers_per_uffd * spec.vmms * spec.userfaultfds_per_vmm + _rings(spec) + 1 + remote


def _replace_by_nothing(descriptor: int) -> None:
    """The number stays taken until its owner closes it, the file is let go."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def _prefetch(spec: RunSpec) -> dict[str, Any]:
    """The prefetcher as the native page server takes it; it may use the CPUs of the run."""
    cpus = {cpu for one in (*spec.placement.vcpu_cpus, *spec.placement.reader_cpus) for cpu in one}
    asked = spec.prefetch
    return {
        "name": asked.name,
        "pages": list(asked.pages),
        "batch_pages": asked.batch_pages,
        "mib_per_s": asked.mib_per_s,
        "cpus": sorted(cpus),
    }


def _strategy(spec: RunSpec) -> tuple[str, dict[str, int]]:
    return spec.strategy.name, dict(spec.strategy.options)
