"""Humps of a distribution of latencies. Two of them are two ways a fault went, and no one number stands for both.

A wake-up across two idle CPUs costs several times what it costs on one, so waiting strategies often have two. SciPy smooths the
counts over log time and finds the peaks; a hump must hold a share of the faults and be parted from its neighbour by a valley
that chance does not make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from results.derive.histogram import SHARP, edges
from results.figures import cell

FEWEST = 200
"""Faults from which humps are looked for."""
SMALLEST_SHARE = 0.05
"""The least of all faults that a hump holds."""
DEEPEST_VALLEY = 0.6
"""Between two humps the density falls below this part of the lower one."""
_SMOOTHING = 0.15
"""Standard deviation of the smoothing, in octaves."""
_SURE = 4.0
"""The valley lies this many standard errors below the lower hump."""


@dataclass(frozen=True)
class Hump:
    """`at_ns`: its peak; `share`: of all faults, those between the valleys on both sides."""

    at_ns: float
    share: float


def humps(counts: npt.NDArray[np.int64]) -> tuple[Hump, ...]:
    """The humps of a histogram (of `results.derive.histogram`), by time; empty when it has too few values."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    total = int(counts.sum())
    if total < FEWEST:
        return ()
    width = _SMOOTHING * (1 << SHARP)
    density = gaussian_filter1d(counts.astype(np.float64), width, mode="constant")
    peaks = list(find_peaks(density)[0])
    window = 2 * width * np.sqrt(np.pi)  # bins that a smoothed value averages over, by its variance
    while True:
        valleys = [int(left + np.argmin(density[left:right])) for left, right in pairwise(peaks)]
        bounds = [0, *valleys, len(counts)]
        shares = [counts[left:right].sum() / total for left, right in pairwise(bounds)]
        doubtful = [
            (density[valley] / min(density[left], density[right]), min((left, right), key=lambda peak: density[peak]))
            for left, right, valley in zip(peaks, peaks[1:], valleys, strict=False)
            if not _parted(float(density[valley]), float(min(density[left], density[right])), float(window))
        ]
        small = [(share, peak) for share, peak in zip(shares, peaks, strict=False) if share < SMALLEST_SHARE and len(peaks) > 1]
        if doubtful:
            peaks.remove(max(doubtful)[1])
        elif small:
            peaks.remove(min(small)[1])
        else:
            break
    at = np.sqrt(edges()[:-1] * edges()[1:])
    return tuple(Hump(float(at[peak]), float(share)) for peak, share in zip(peaks, shares, strict=True))


def in_words(found: Sequence[Hump]) -> str:
    """Several modes in words; empty for one."""
    if len(found) < 2:
        return ""
    count = "bimodal" if len(found) == 2 else f"{len(found)} modes"
    return f"{count}: " + ", ".join(f"{hump.share:.0%} at {cell(hump.at_ns / 1e3, 3)} us" for hump in found)


def _parted(valley: float, peak: float, window: float) -> bool:
    return valley < DEEPEST_VALLEY * peak and (peak - valley) * window > _SURE * np.sqrt((peak + valley) * window)
