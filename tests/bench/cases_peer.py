"""Real vCPUs beside the kernel's own demand_paging_test: as many vCPUs, as much memory, nothing pinned.

It has a reader a vCPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cases_paging import CPUS
from tests.bench.lines import Asked, Line
from tests.bench.ours import Shape, in_process
from tests.bench.pairs import interleave, interval, ratios
from tests.bench.peer import HOW_TO_GET_IT, PeerShape, pages_per_s, peer

CASE = "demand_paging_test"
VCPUS = (1, 2, 8)
MIB_PER_VCPU = 64
FEWER = 3
"""A run of the peer takes seconds: one gets so many of the pairs asked."""
WARM_UP = 1
SEVERAL_TIMES = 3.0
"""Faster an exit should be than a wait. How long an exit of KVM_RUN takes is KVM's; the case `kvm` has one that does nothing."""


@dataclass(frozen=True)
class Ours:
    """A strategy beside the peer. `bar`: the least ratio; None where there is none to reach."""

    strategy: str
    bar: float | None = None
    fault_around_pages: int = 1
    a_reader_a_cpu: bool = False

    def readers(self, vcpus: int) -> int:
        """As many as vCPUs, which is what the peer has, or no more than CPUs."""
        return min(vcpus, len(CPUS)) if self.a_reader_a_cpu else vcpus

    def shape(self, peer: PeerShape) -> Shape:
        """With the peer's memory and order. Its guests write, and its readers wait in epoll."""
        return Shape(
            self.strategy,
            pages=(peer.mib_per_vcpu << 20) // 4096 * peer.vcpus,
            vcpus=peer.vcpus,
            readers=self.readers(peer.vcpus),
            order="sequential",
            read_share=0.0,
            engine="kvm",
            wait="epoll",
            fault_around_pages=self.fault_around_pages,
        )


MEASURED = (
    Ours("uffd_wait", bar=1.0),
    Ours("uffd_wait", a_reader_a_cpu=True),
    Ours("no_uffd_wait", bar=SEVERAL_TIMES),
    Ours("no_uffd_wait", fault_around_pages=8),
)


def demand_paging_test(asked: Asked) -> Iterator[Line]:
    """Its rate against ours, waiting and exiting. Left out by name where there is no such program, or no /dev/kvm."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return
    program = peer(asked.build)
    if program is None:
        yield Line(CASE, "left out", "", note=HOW_TO_GET_IT)
        return
    for vcpus in VCPUS:
        shape = PeerShape(vcpus, MIB_PER_VCPU // 8 if asked.quick else MIB_PER_VCPU)
        for ours in MEASURED:
            if ours.a_reader_a_cpu and vcpus <= len(CPUS):
                continue  # as many as vCPUs
            yield _beside(asked, program, ours, shape)


def _beside(asked: Asked, program: Path, ours: Ours, shape: PeerShape) -> Line:
    def rate() -> float:
        return in_process(ours.shape(shape)).pages_per_s

    def its_rate() -> float:
        return pages_per_s(program, shape)

    interleave(rate, its_rate, WARM_UP)
    left, right = interleave(rate, its_rate, max(2, asked.pairs // FEWER))
    ratio = interval(ratios(left, right))
    return Line(
        CASE,
        f"{ours.strategy}, {_count(ours.fault_around_pages, 'page')} a fault, {_count(shape.vcpus, 'vCPU')}, "
        f"{_count(ours.readers(shape.vcpus), 'reader')}",
        str(ratio),
        "" if ours.bar is None else f">= {ours.bar:.2f}",
        None if ours.bar is None else ratio.reaches(ours.bar),
        f"{interval(left).median / 1e3:.1f} of {interval(right).median / 1e3:.1f} kpages/s",
    )


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'s' * (number > 1)}"


CASES = {CASE: demand_paging_test}
