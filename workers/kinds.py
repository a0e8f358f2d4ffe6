"""Which state each page of the region is prepared in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workers.spec import FAULT_KINDS, FaultMixSpec


def page_kinds(mix: FaultMixSpec, pages: int, seed: int) -> npt.NDArray[np.uint8]:
    """One code a page, shape (pages,), in an order shuffled by `seed`; the code is the kind's index in `FAULT_KINDS`.

    The counts are exact shares of `pages` (largest remainder), not a random draw. Shares are divided by their sum: the
    deviation from 1 that validation tolerates would be a page in a large region.
    """
    shares = [getattr(mix, kind) for kind in FAULT_KINDS]
    exact = [share / sum(shares) * pages for share in shares]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda kind: counts[kind] - exact[kind])
    for kind in by_remainder[: pages - sum(counts)]:
        counts[kind] += 1
    kinds = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    np.random.default_rng(seed).shuffle(kinds)
    return kinds
