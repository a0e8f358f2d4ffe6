"""Real vCPUs: engine=kvm against a bare KVM_RUN loop of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.bench.cases_paging import Against, compare
from tests.bench.lines import Asked, Line
from tests.bench.ours import in_process

BAR = 0.95
VCPUS = (1, 2, 8)


def kvm(asked: Asked) -> Iterator[Line]:
    """All vCPUs in one VM, exits answered by the vCPU; records, stamps and word verification on. Nothing without /dev/kvm."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return
    for vcpus in VCPUS:
        yield compare(asked, "kvm", Against("no_uffd_wait", vcpus, BAR, engine="kvm", note=", engine=kvm"), in_process)


CASES = {"kvm": kvm}
