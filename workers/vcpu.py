"""The VMM process's actor: its mapping of the guest, its userfaultfds, its vCPU threads.

It holds the guest's memory and its own userfaultfds for as long as the run lasts, so a page server that is killed takes neither
with it: `address` is where a successor finds the guest, and `hand_over` settles what the dead one had in flight and hands the
userfaultfds over again. Both may be called while `run` is under way."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from workers import _native
from workers.actor import Actor
from workers.attach import attach
from workers.external.peer import HandlerPeer
from workers.protocol import handshake
from workers.reports import GuestAddress, VmmReport
from workers.spec import RunSpec, native_access

NS_PER_S = 1_000_000_000

FaultChunk = tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.void]]
"""Of each record its vCPU and its round, and the records, `_native.FAULT_DTYPE`; all of shape (n,)."""


class Vcpu(Actor):
    """One VMM process of `vcpus_per_vmm` vCPUs: `open`, `prepare`, `run`, `finish`, `verify`, `close`; then the next run.

    A plain class; the driver makes an actor of it.
    """

    def __init__(self, deadman_s: float = 0.0) -> None:
        super().__init__(deadman_s)
        self._guest: _native.Guest | None = None
        self._vmm: _native.Vmm | None = None
        self._connections: list[socket.socket] = []
        self._handler: HandlerPeer | None = None
        self._number = 0
        self._thread: dict[str, Any] = {}
        self._seen: dict[str, Any] = {}
        self._recorded: list[int] = []
        self._rounds: list[npt.NDArray[np.int64]] = []  # by vCPU: records there were at the end of each round
        self._lets_go = False

    def calibrate(self, kind: str, memory_type: str, pages: int) -> dict[str, float]:
        """What the emulated operations of exits of this kind cost on this host and memory now: `_native.calibrate`. Empty where
        no huge page is free to calibrate on. Raises OSError."""
        try:
            return _native.calibrate(kind, memory_type, pages)
        except OSError as error:
            if memory_type == "hugetlb" and error.errno == errno.ENOMEM:
                return {}
            raise

    def open(self, spec: RunSpec, vmm: int, address: GuestAddress) -> None:
        """Attach to the guest, map and register its region, hand the userfaultfds over.

        Raises OSError (KernelError among them) and ValueError; then nothing of the guest is kept.
        """
        self.close()
        try:
            self._open(spec, vmm, address)
        except BaseException:
            self.close()
            raise

    def _open(self, spec: RunSpec, vmm: int, address: GuestAddress) -> None:
        self._guest = attach(address, "the page server")
        if spec.source.contents_of_file:
            self._guest.open_contents(address.snapshot)
        self._lets_go = spec.page_server.inject.vanish_after_events > 0
        first = vmm * spec.vcpus_per_vmm
        self._vmm = _native.Vmm(
            self._guest,
            {
                "vmm": vmm,
                "first_vcpu": first,
                "vcpus": spec.vcpus_per_vmm,
                "uffds": spec.uffds_per_vmm,
                "strategy": spec.strategy.name,
                "options": dict(spec.strategy.options),
                "engine": spec.engine,
                "engine_options": dict(spec.engine_options),
                "verify": spec.verify,
                "on_memory_error": spec.on_memory_error,
                "snapshot": address.snapshot,
                "cold": spec.source.name == "file" and spec.source.cache == "cold" and spec.memory.type == "file",
                "watchdog_s": spec.watchdog_s,
                "sample_every": spec.sample_every,
                "record_capacity": spec.record_capacity,
                "measure_s": spec.measure_s,
                "rounds_limit": spec.most_rounds,
                "count_mmap_lock": spec.count_mmap_lock,
                "vcpu_cpus": [list(cpus) for cpus in spec.placement.vcpu_cpus[first : first + spec.vcpus_per_vmm]],
                "access": native_access(spec.access),
                "disturb": spec.disturb.native(spec.vmms),
            },
        )
        self._number = vmm
        external = spec.page_server.external
        if external is None:
            self._send(address)
        else:
            self._meet(address, external.message)

    def _meet(self, address: GuestAddress, form: str) -> None:
        """As a VMM that is not ours meets its handler: one userfaultfd over all regions, in the published message."""
        [(uffd, regions)] = self._opened().userfaultfds()
        self._handler = HandlerPeer(address.socket_path, uffd, [handshake.Region(**region) for region in regions], form)
        assert self._guest is not None
        self._handler.watch(self._guest.stop)

    def _send(self, address: GuestAddress) -> None:
        vmm = self._opened()
        for shard, (uffd, regions) in enumerate(vmm.userfaultfds()):
            self._connections.append(
                handshake.send(
                    address.socket_path,
                    uffd,
                    [handshake.Region(**region) for region in regions],
                    vmm=self._number,
                    shard=shard,
                    record_fd=vmm.record_fd,
                    faults_fd=vmm.faults_fd,
                )
            )

        self._send_devices(address)

    def _send_devices(self, address: GuestAddress) -> None:
        """The userfaultfd of the devices' own mapping, where they have one: no vCPU of ours faults there, so no records."""
        vmm = self._opened()
        handed = vmm.device_userfaultfd()
        if handed is None:
            return
        uffd, regions, record_fd = handed
        no_faults = os.memfd_create("uffd-loadgen-no-faults", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(no_faults, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        try:
            self._connections.append(
                handshake.send(
                    address.socket_path,
                    uffd,
                    [handshake.Region(**region) for region in regions],
                    vmm=self._number,
                    shard=len(vmm.userfaultfds()),
                    record_fd=record_fd,
                    faults_fd=no_faults,
                )
            )
        finally:
            os.close(no_faults)

    def address(self) -> GuestAddress:
        """Where a page server that takes over finds the guest: it needs no socket of ours."""
        if self._guest is None:
            raise RuntimeError("the VMM process has no guest: open comes first")
        return GuestAddress(os.getpid(), self._guest.region_fd, self._guest.shared_fd, "")

    def stop_reason(self) -> str:
        """Why the run was stopped before its end; empty when it was not, or when there is no guest. May be called while `run` is
        under way: it is in the guest's memory, so it can be read here when the page server does not answer."""
        return "" if self._guest is None else self._guest.stop_reason()

    def hand_over(self, address: GuestAddress) -> int:
        """The page server was killed: settle its claims of pages, and hand the userfaultfds over to its successor at `address`.
        How many claims there were. Raises OSError (KernelError among them)."""
        reclaimed = self._opened().reclaim()
        self._disconnect()
        self._send(address)
        return reclaimed

    def prepare(self) -> dict[str, Any]:
        """Bring every page into the state its kind asks for, and prove it; the native core's report."""
        return self._opened().prepare()

    def run(self) -> None:
        """The measured phase: returns when this VMM process's vCPUs have ended, or the run was stopped."""
        vmm = self._opened()
        if self._lets_go:
            vmm.let_go()
        if self._handler is not None:
            self._handler.begin()
        before = _used()
        vmm.run()
        self._thread = {"tid": threading.get_native_id(), **{key: value - before[key] for key, value in _used().items()}}
        if self._handler is not None:
            self._seen = self._handler.report(stuck=self.stop_reason().startswith("stuck: "))

    def finish(self) -> VmmReport:
        """After the page server has finished: the counters, and the records' time stamps in CLOCK_MONOTONIC."""
        vmm = self._opened()
        vmm.finish()
        vcpus = vmm.vcpus()
        self._recorded = [int(vcpu["recorded"]) for vcpu in vcpus]
        self._rounds = [np.asarray(vcpu.pop("round_recorded"), np.int64) for vcpu in vcpus]
        seen = self._seen | {"brought_untouched": vmm.brought_untouched} if self._handler is not None else {}
        nodes = vmm.page_nodes()
        return VmmReport(vmm.counters(), vcpus, vmm.page_states(), vmm.disturbers(), vmm.unprepared, self._thread, seen, nodes)

    def verify(self) -> dict[str, Any]:
        """Read every resolved page in full; the native core's report."""
        return self._opened().verify()

    def fault_chunk(self, start: int, count: int) -> FaultChunk:
        """Records `start` to `start + count` of this VMM process's vCPUs one after the other. Shorter than asked at the end,
        empty past it."""
        vmm = self._opened()
        first = self._first_vcpu(vmm)
        numbers, rounds, parts, begin = [], [], [], 0
        for index, recorded in enumerate(self._recorded):
            low, high = max(start, begin), min(start + count, begin + recorded)
            if low < high:
                parts.append(vmm.records(index)[low - begin : high - begin])
                numbers.append(np.full(high - low, first + index, dtype=np.uint16))
                at = np.arange(low - begin, high - begin)
                rounds.append(np.searchsorted(self._rounds[index], at, side="right").astype(np.uint16))
            begin += recorded
        if not parts:
            return np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, _native.FAULT_DTYPE)
        return np.concatenate(numbers), np.concatenate(rounds), np.concatenate(parts)

    def close(self) -> None:
        """Free everything of this run; the actor stays for the next. Idempotent."""
        self._recorded, self._rounds, self._thread, self._seen = [], [], {}, {}
        if self._handler is not None:  # its watch uses the guest
            self._handler.close()
            self._handler = None
        self._vmm = None
        self._guest = None
        self._disconnect()

    def _disconnect(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections = []

    def _opened(self) -> _native.Vmm:
        if self._vmm is None:
            raise RuntimeError("the VMM process has no guest: open comes first")
        return self._vmm

    @staticmethod
    def _first_vcpu(vmm: _native.Vmm) -> int:
        return int(vmm.vcpus()[0]["vcpu"])


def _used() -> dict[str, int]:
    """What this thread has used so far, by the columns of `threads`."""
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return {
        "user_ns": round(usage.ru_utime * NS_PER_S),
        "system_ns": round(usage.ru_stime * NS_PER_S),
        "voluntary_switches": usage.ru_nvcsw,
        "involuntary_switches": usage.ru_nivcsw,
        "minor_faults": usage.ru_minflt,
        "major_faults": usage.ru_majflt,
    }
