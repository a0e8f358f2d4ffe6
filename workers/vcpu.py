"""The VMM process's actor: its mapping of the guest, its userfaultfds, its vCPU threads."""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import Any

import numpy as np
import numpy.typing as npt

from workers import _native, handshake
from workers.reports import GuestAddress, VmmReport
from workers.spec import RunSpec

CALIBRATION_ROUNDS = 20_000


class Vcpu:
    """One VMM process of `vcpus_per_vmm` vCPUs: `open`, `prepare`, `run`, `finish`, `verify`, `close`; then the next run.

    A plain class; the driver makes an actor of it.
    """

    def __init__(self) -> None:
        self._guest: _native.Guest | None = None
        self._vmm: _native.Vmm | None = None
        self._connections: list[socket.socket] = []
        self._recorded: list[int] = []

    def calibrate(self, kind: str) -> float:
        """Nanoseconds an emulated exit of this kind (`none`, `signal`, `probe`, `populate`) costs on this machine, now."""
        return _native.calibrate_exit(kind, CALIBRATION_ROUNDS)

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
        self._guest = _attach(address)
        first = vmm * spec.vcpus_per_vmm
        access = dataclasses.asdict(spec.access)
        access["trace"] = np.asarray(spec.access.trace, dtype=np.uint32)
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
                "verify": spec.verify,
                "on_memory_error": spec.on_memory_error,
                "watchdog_s": spec.watchdog_s,
                "sample_every": spec.sample_every,
                "record_capacity": spec.record_capacity,
                "vcpu_cpus": [list(cpus) for cpus in spec.placement.vcpu_cpus[first : first + spec.vcpus_per_vmm]],
                "access": access,
            },
        )
        for shard, (uffd, regions) in enumerate(self._vmm.userfaultfds()):
            self._connections.append(
                handshake.send(
                    address.socket_path,
                    uffd,
                    [handshake.Region(**region) for region in regions],
                    vmm=vmm,
                    shard=shard,
                    record_fd=self._vmm.record_fd,
                    faults_fd=self._vmm.faults_fd,
                )
            )

    def prepare(self) -> dict[str, Any]:
        """Bring every page into the state its kind asks for, and prove it; the native core's report."""
        return self._opened().prepare()

    def run(self) -> None:
        """The measured phase: returns when this VMM process's vCPUs have ended, or the run was stopped."""
        self._opened().run()

    def finish(self) -> VmmReport:
        """After the page server has finished: the counters, and the records' time stamps in CLOCK_MONOTONIC."""
        vmm = self._opened()
        vmm.finish()
        vcpus = vmm.vcpus()
        self._recorded = [int(vcpu["recorded"]) for vcpu in vcpus]
        return VmmReport(vmm.counters(), vcpus, vmm.page_states())

    def verify(self) -> dict[str, Any]:
        """Read every resolved page in full; the native core's report."""
        return self._opened().verify()

    def fault_chunk(self, start: int, count: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.void]]:
        """Records `start` to `start + count` of this VMM process's vCPUs one after the other: each one's vCPU, shape (n,),
        and the records, shape (n,), `_native.FAULT_DTYPE`. Shorter than asked at the end, empty past it."""
        vmm = self._opened()
        first = self._first_vcpu(vmm)
        numbers, parts, begin = [], [], 0
        for index, recorded in enumerate(self._recorded):
            low, high = max(start, begin), min(start + count, begin + recorded)
            if low < high:
                parts.append(vmm.records(index)[low - begin : high - begin])
                numbers.append(np.full(high - low, first + index, dtype=np.uint16))
            begin += recorded
        if not parts:
            return np.empty(0, np.uint16), np.empty(0, _native.FAULT_DTYPE)
        return np.concatenate(numbers), np.concatenate(parts)

    def close(self) -> None:
        """Free everything of this run; the actor stays for the next. Idempotent."""
        self._recorded = []
        self._vmm = None
        self._guest = None
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


def _attach(address: GuestAddress) -> _native.Guest:
    """The page server's guest, through its descriptors under /proc (same user, same host)."""
    opened: list[int] = []
    try:
        for number in (address.region_fd, address.shared_fd):
            opened.append(os.open(f"/proc/{address.pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC) if number >= 0 else -1)
        return _native.Guest.attach(*opened)
    except FileNotFoundError:
        raise ConnectionError(f"the page server (pid {address.pid}) is gone, or does not run on this host") from None
    finally:
        for descriptor in opened:
            if descriptor >= 0:
                os.close(descriptor)
