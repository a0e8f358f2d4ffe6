"""Real vCPUs beside the kernel's own demand_paging_test: as many vCPUs and readers, as much memory, neither pinned."""

from __future__ import annotations

import os
from collections.abc import Iterator

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
MEASURED = (("uffd_wait", 1, 1.0), ("no_uffd_wait", 1, None), ("no_uffd_wait", 8, 3.0))
"""Strategy, fault_around_pages, bar. None where a page costs an exit: how long that takes is KVM's, and the case `kvm` has it."""


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
        for strategy, around, bar in MEASURED:
            ours = Shape(
                strategy,
                pages=(shape.mib_per_vcpu << 20) // 4096 * vcpus,
                vcpus=vcpus,
                readers=vcpus,
                order="sequential",
                read_share=0.0,  # the peer's guests write
                engine="kvm",
                wait="epoll",  # as its readers do
                fault_around_pages=around,
            )

            def rate(ours: Shape = ours) -> float:
                return in_process(ours).pages_per_s

            def its_rate(shape: PeerShape = shape) -> float:
                return pages_per_s(program, shape)

            interleave(rate, its_rate, WARM_UP)
            left, right = interleave(rate, its_rate, max(2, asked.pairs // FEWER))
            ratio = interval(ratios(left, right))
            yield Line(
                CASE,
                f"{strategy}, {around} page{'s' * (around > 1)} a fault, {vcpus} vCPU{'s' * (vcpus > 1)}",
                str(ratio),
                "" if bar is None else f">= {bar:.2f}",
                None if bar is None else ratio.reaches(bar),
                f"{interval(left).median / 1e3:.1f} of {interval(right).median / 1e3:.1f} kpages/s",
            )


CASES = {CASE: demand_paging_test}
