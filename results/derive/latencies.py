"""Latencies of a run's faults, kept whole for exact percentiles, apart by the emulated operations that each fault paid for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from results.derive.quantiles import Quantiles, per_mille_of

Paid = tuple[int, int]
"""Emulated exits and emulated stage-2 violations of a fault."""

EMULATED = ("emulated_exits", "emulated_entries")


class FaultLatencies:
    """Latencies in ns: from the touch (`closed`), from when the touch should have been (`open`, open loop), from then to the
    touch (`late`), from the touch to the arrival of an emulated exit (`arrival`), and, of faults whose touch is not visible, from
    their event to its answer (`service`)."""

    def __init__(self) -> None:
        self.open = Quantiles()
        self.arrival = Quantiles()
        self.late = Quantiles()
        self.service = Quantiles()
        self._closed: dict[Paid, Quantiles] = {}

    def add(self, columns: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """Add a batch: one int64 array a stage by its column name, all of one length, 0 where it did not happen; and, of records
        that have them, one each for EMULATED."""
        resumed, raised, intended = (columns[name] for name in ("resumed_ns", "raised_ns", "intended_ns"))
        if not raised.all() and "installed_ns" in columns:
            self._add_service(columns)
        exits, entries = (columns.get(name, np.zeros(len(resumed), np.int64)) for name in EMULATED)
        ended = (raised != 0) & (resumed != 0)
        paid = exits << 8 | entries
        for code in paid[:1] if (paid == paid[:1]).all() else np.unique(paid[ended]):
            mine = ended & (paid == code)
            self._closed.setdefault((int(code) >> 8, int(code) & 255), Quantiles()).add((resumed - raised)[mine])
        opened = (intended != 0) & (resumed != 0)
        if opened.any():
            self.open.add((resumed - intended)[opened])
            self.late.add((raised - intended)[opened & (raised != 0)])
        exited = (exits != 0) & (raised != 0) & (columns.get("delivered_ns", np.zeros(len(resumed), np.int64)) != 0)
        if exited.any():
            self.arrival.add((columns["delivered_ns"] - raised)[exited])

    def _add_service(self, columns: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """Of a foreign VMM: what its page server alone saw."""
        raised, delivered, installed = (columns[name] for name in ("raised_ns", "delivered_ns", "installed_ns"))
        served = (raised == 0) & (delivered != 0) & (installed != 0)
        if served.any():
            self.service.add((installed - delivered)[served])

    def closed(self, rank: int, cost_ns: Callable[[Paid], float] = lambda paid: 0.0) -> int | None:
        """The latency at `rank` thousandths, each fault's without its `cost_ns`; None of no faults."""
        return per_mille_of([(latencies, round(cost_ns(paid))) for paid, latencies in self._closed.items()], rank)
