"""Where a fault's time goes: its latency cut at the stages it passed.

    raised --deliver--> delivered --fetch--> fetched --install--> installed --resume--> resumed

The four parts of a fault sum to its latency, resumed - raised, exactly. A stage that did not happen has no time of its own: the
part that it would end has length 0, and the time belongs to the part of the next stage there is. The wake-up comes from within
the resolving call, so a vCPU may be done before the reader's call has returned: installation then ends with the access.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

PARTS = ("deliver", "fetch", "install", "resume")
"""The parts, named for what is being waited for."""

ENDS_NS = ("delivered_ns", "fetched_ns", "installed_ns", "resumed_ns")
"""The column of `faults` that ends each part; the first begins at raised_ns."""

MEANING = {
    "deliver": "until a reader has the event, or the exit has arrived",
    "fetch": "until the contents are complete",
    "install": "until the resolving call has returned, or the access is done",
    "resume": "until the access is done",
}

EXTERNAL = "of an external handler the stages between are not visible: all of a fault's time counts as resume"


def parts(times: Mapping[str, npt.NDArray[np.int64]]) -> list[npt.NDArray[np.int64]]:
    """The four parts in ns, in the order of PARTS, of faults that have both `raised_ns` and `resumed_ns`; 0 in another stage
    means that it did not happen."""
    before, resumed = times["raised_ns"], times["resumed_ns"]
    lengths = []
    for stage in ENDS_NS:
        end = np.clip(times[stage], before, resumed)  # 0, too, comes out as an end without length
        lengths.append(end - before)
        before = end
    return lengths
