"""Exact quantiles of many integers that arrive in batches, in far less memory than they take where values repeat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_MERGED_AT = 16
"""Counted batches that become one: each merge sorts what is distinct in them."""

Integers = npt.NDArray[np.integer[Any]]
Counted = tuple[Integers, npt.NDArray[np.int64]]
"""Distinct values, rising, and how often each was added."""


class Quantiles:
    """Keeps every value added: as counts of distinct ones where they repeat, as latencies in ns do, else as they are."""

    def __init__(self) -> None:
        self._sorted: list[Integers] = []
        self._counted: list[Counted] = []

    def __len__(self) -> int:
        return sum(len(batch) for batch in self._sorted) + sum(int(counts.sum()) for _, counts in self._counted)

    def add(self, values: npt.NDArray[np.int64]) -> None:
        """Add a batch of any length; `values` itself is left alone."""
        if len(values) == 0:
            return
        narrow = values.min() >= 0 and values.max() <= np.iinfo(np.uint32).max
        batch: Integers = values.astype(np.uint32 if narrow else np.int64)
        batch.sort()
        distinct, counts = _counted(batch)
        if 3 * len(distinct) > len(batch):  # a value and its count take three times the memory of a value
            self._sorted.append(batch)
            return
        self._counted.append((distinct, counts))
        if len(self._counted) == _MERGED_AT:
            self._counted = [_merged(self._counted)]

    def per_mille(self, rank: int) -> int | None:
        """The smallest value added that at least `rank` thousandths of them do not exceed; None of no values.

        It is always one of the values (nearest rank, no interpolation).
        """
        return per_mille_of([(self, 0)], rank)

    def _ends(self) -> tuple[int, int] | None:
        parts = [*self._sorted, *(distinct for distinct, _ in self._counted)]
        return (min(int(part[0]) for part in parts), max(int(part[-1]) for part in parts)) if parts else None

    def _not_above(self, value: int) -> int:
        whole = sum(_rank(batch, value) for batch in self._sorted)
        return whole + sum(int(counts[: _rank(distinct, value)].sum()) for distinct, counts in self._counted)


def per_mille_of(parts: Sequence[tuple[Quantiles, int]], rank: int) -> int | None:
    """The same of several together, each one's values without what stands beside it."""
    ends = [(low - less, high - less) for part, less in parts for low, high in filter(None, [part._ends()])]
    if not ends:
        return None
    wanted = max(1, -(-sum(len(part) for part, _ in parts) * rank // 1000))
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    while low < high:
        middle = (low + high) // 2
        if sum(part._not_above(middle + less) for part, less in parts) >= wanted:
            high = middle
        else:
            low = middle + 1
    return low


def _rank(rising: Integers, value: int) -> int:
    """How many are not above `value`, which may not fit their type."""
    if value >= int(rising[-1]):
        return len(rising)
    if value < int(rising[0]):
        return 0
    return int(np.searchsorted(rising, rising.dtype.type(value), side="right"))


def _counted(rising: Integers) -> Counted:
    begins = np.flatnonzero(np.concatenate(([True], rising[1:] != rising[:-1])))
    return rising[begins], np.diff(begins, append=len(rising)).astype(np.int64)


def _merged(parts: Iterable[Counted]) -> Counted:
    parts = list(parts)
    values = np.concatenate([distinct for distinct, _ in parts])
    order = np.argsort(values, kind="stable")
    values, counts = values[order], np.concatenate([counts for _, counts in parts])[order]
    begins = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return values[begins], np.add.reduceat(counts, begins)
