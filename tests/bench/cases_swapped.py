"""Anonymous pages that were swapped out again: what the extra trip of no_slow_gup costs beyond the kernel's own work."""

from __future__ import annotations

import os
from collections.abc import Iterator

from loadgen.host.changes import HostChanges
from tests.bench.cases_paging import VCPUS, Against, compare
from tests.bench.lines import Asked, Line
from tests.bench.ours import in_process
from workers.spec import SwapSpec

BAR = 0.90
SWAP_BYTES = 2 << 30


def swapped(asked: Asked) -> Iterator[Line]:
    """All vCPUs in one VMM process, each page probed and populated from zram. Nothing where swap cannot be set up: root only."""
    if os.geteuid() != 0:
        return
    changes = HostChanges()
    changes.keep(SwapSpec("zram", SWAP_BYTES, ""))
    try:
        for vcpus in VCPUS:
            yield compare(asked, "swapped", Against("no_slow_gup", vcpus, BAR, swapped=True, note=", swapped out"), in_process)
    finally:
        changes.close()


CASES = {"swapped": swapped}
