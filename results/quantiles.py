"""Exact quantiles of many integers that arrive in batches, in 4 bytes a value where they fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Quantiles:
    """Keeps every value added; each batch is sorted on arrival, so that a quantile needs no copy of them all."""

    def __init__(self) -> None:
        self._batches: list[npt.NDArray[np.integer[Any]]] = []

    def __len__(self) -> int:
        return sum(len(batch) for batch in self._batches)

    def add(self, values: npt.NDArray[np.int64]) -> None:
        """Add a batch of any length; `values` itself is left alone."""
        if len(values) == 0:
            return
        narrow = values.min() >= 0 and values.max() <= np.iinfo(np.uint32).max
        batch: npt.NDArray[np.integer[Any]] = values.astype(np.uint32 if narrow else np.int64)
        batch.sort()
        self._batches.append(batch)

    def per_mille(self, rank: int) -> int | None:
        """The smallest value added that at least `rank` thousandths of them do not exceed; None of no values.

        It is always one of the values (nearest rank, no interpolation).
        """
        if not self._batches:
            return None
        wanted = max(1, -(-len(self) * rank // 1000))
        low = min(int(batch[0]) for batch in self._batches)
        high = max(int(batch[-1]) for batch in self._batches)
        while low < high:
            middle = (low + high) // 2
            if self._not_above(middle) >= wanted:
                high = middle
            else:
                low = middle + 1
        return low

    def _not_above(self, value: int) -> int:
        count = 0
        for batch in self._batches:
            if value >= int(batch[-1]):
                count += len(batch)
            elif value >= int(batch[0]):
                count += int(np.searchsorted(batch, batch.dtype.type(value), side="right"))
        return count
