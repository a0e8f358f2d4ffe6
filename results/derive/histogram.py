"""Counts of times in bins less than 1.6 % wide: what a distribution is drawn from, in 16 KiB whatever it counts.

A bin is the exponent of a time and the first SHARP bits after its leading one, so 64 bins an octave; up to 64 ns each number has
a bin of its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SHARP = 6
OCTAVES = 32
"""Times up to 2^32 ns; longer ones are counted in the last bin."""
BINS = OCTAVES << SHARP

_MANTISSA_BITS = 52
_BIAS = 1023


def bins(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The bin of each value of at least 0."""
    bits = np.maximum(values, 1).astype(np.float64).view(np.int64)
    found: npt.NDArray[np.int64] = (bits >> (_MANTISSA_BITS - SHARP)) - (_BIAS << SHARP)
    return np.minimum(found, BINS - 1, out=found)


def edges() -> npt.NDArray[np.float64]:
    """Lower edge of every bin, and the upper one of the last: BINS + 1 values."""
    number = np.arange(BINS + 1)
    edges: npt.NDArray[np.float64] = 2.0 ** (number >> SHARP) * (1 + (number & ((1 << SHARP) - 1)) / (1 << SHARP))
    return edges


def count(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of the values are in each bin."""
    return np.bincount(bins(values), minlength=BINS)
