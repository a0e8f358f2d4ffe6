"""Real vCPUs: engine=kvm against a bare KVM_RUN loop of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.bench.bare import Waiting, compile_bare
from tests.bench.cases_paging import WARM_UP, Against, bare_rate, compare, pages_for
from tests.bench.lines import Asked, Line
from tests.bench.ours import in_process
from tests.bench.pairs import interleave, interval

BAR = 0.95
VCPUS = (1, 2, 8)
CALIBRATION_PAGES = 8192


def kvm(asked: Asked) -> Iterator[Line]:
    """All vCPUs in one VM, exits answered by the vCPU; records, stamps and word verification on. Nothing without /dev/kvm."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return
    for vcpus in VCPUS:
        yield compare(asked, "kvm", Against("no_uffd_wait", vcpus, BAR, engine="kvm", note=", engine=kvm"), in_process)
    yield _idle_exit(asked)


def _idle_exit(asked: Asked) -> Line:
    """What of a trip is KVM's price of leaving the guest: the bare loop with and without one more exit a page."""
    against = Against("no_uffd_wait", 1, 0.0, engine="kvm", beside=True)
    pages = pages_for(bare_rate(asked, against, CALIBRATION_PAGES), asked.seconds, against.vcpus)
    pairs = against.pairs(asked)
    program, arguments = compile_bare(against.loop, asked.build), against.bare(pages).arguments(pairs + WARM_UP)
    with Waiting(program, [*arguments, "--idle-exits", "1"]) as two, Waiting(program, arguments) as one:

        def us_a_page(loop: Waiting) -> float:
            return 1e6 / float(loop.measure()["pages_per_s"])

        interleave(lambda: us_a_page(two), lambda: us_a_page(one), WARM_UP)
        left, right = interleave(lambda: us_a_page(two), lambda: us_a_page(one), pairs)
    idle = interval([a - b for a, b in zip(left, right, strict=True)])
    note = f"a page of the bare loop, which exits once, takes {interval(right).median:.1f} us"
    return Line("kvm", "us an exit that does nothing, 1 vCPU", str(idle), note=note)


CASES = {"kvm": kvm}
