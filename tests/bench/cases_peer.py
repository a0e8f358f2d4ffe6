"""Real vCPUs beside the kernel's own demand_paging_test: as many vCPUs and readers, as much memory, nothing pinned.

Its guests run in kernel mode, and so do ours where each page is a fault.
Compared are the pages that readers resolve, or vCPUs for themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from loadgen.plan.specs import native_options
from tests.bench.lines import Asked, Line
from tests.bench.ours import Shape, in_process
from tests.bench.pairs import interleave, interval, ratios
from tests.bench.peer import HOW_TO_GET_IT, PeerRate, PeerShape, counter, peer, rate_of
from workers.registry import engine_entry

CASE = "demand_paging_test"
VCPUS = (1, 2, 8)
MIB_PER_VCPU = 32
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
    guest_mode: str = "kernel"

    def shape(self, peer: PeerShape) -> Shape:
        """With the peer's memory and order. Its guests write, and its readers wait in epoll."""
        return Shape(
            self.strategy,
            pages=peer.pages,
            vcpus=peer.vcpus,
            readers=peer.vcpus,
            uffds=1 if peer.single else peer.vcpus,
            order="sequential",
            read_share=0.0,
            engine="kvm",
            engine_options=native_options(engine_entry("kvm"), {"guest_mode": self.guest_mode}),
            wait="epoll",
            fault_around_pages=self.fault_around_pages,
        )


MEASURED = (
    Ours("uffd_wait", bar=1.0),
    Ours("no_uffd_wait", bar=SEVERAL_TIMES),
    Ours("no_uffd_wait", fault_around_pages=8, guest_mode="user"),
)


def demand_paging_test(asked: Asked) -> Iterator[Line]:
    """Its rate against ours, waiting and exiting. Left out by name where there is no such program, or no /dev/kvm."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return
    program = peer(asked.build)
    if program is None:
        yield Line(CASE, "left out", "", note=HOW_TO_GET_IT)
        return
    counting = counter(asked.build)
    for vcpus in VCPUS:
        for single in (True, False) if vcpus > 1 else (True,):
            shape = PeerShape(vcpus, MIB_PER_VCPU // 4 if asked.quick else MIB_PER_VCPU, single)
            for ours in MEASURED:
                yield _beside(asked, ours, shape, partial(rate_of, program, counting, shape))


def _beside(asked: Asked, ours: Ours, shape: PeerShape, its_rate: Callable[[], PeerRate]) -> Line:
    printed: list[float] = []

    def rate() -> float:
        return in_process(ours.shape(shape)).pages_per_s

    def resolved() -> float:
        its = its_rate()
        printed.append(its.printed)
        return its.resolved

    interleave(rate, resolved, WARM_UP)
    left, right = interleave(rate, resolved, max(2, asked.pairs // FEWER))
    ratio = interval(ratios(left, right))
    return Line(
        CASE,
        f"{ours.strategy}, {_count(ours.fault_around_pages, 'page')} a fault, in {ours.guest_mode} mode, "
        f"{_count(shape.vcpus, 'vCPU')}, {'one userfaultfd' if shape.single else 'a userfaultfd each'}",
        str(ratio),
        "" if ours.bar is None else f">= {ours.bar:.2f}",
        None if ours.bar is None else ratio.reaches(ours.bar),
        f"{interval(left).median / 1e3:.1f} of {interval(right).median / 1e3:.1f} kpages/s; "
        f"it printed {interval(printed[WARM_UP:]).median / 1e3:.1f}",
    )


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'s' * (number > 1)}"


CASES = {CASE: demand_paging_test}
