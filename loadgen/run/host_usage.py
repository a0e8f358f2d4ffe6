"""What was used on every host of a run while it was measured, and whether the run can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ray.exceptions import RayError

from loadgen.cluster.nodes import Here
from loadgen.cluster.session import Seat
from loadgen.host.interference import Snapshot, driver_cpu_share, driver_row, snapshot, watched
from loadgen.plan.guests_over_hosts import exclusive
from loadgen.plan.plan import PlannedGuest
from results.derive.trust import OF_THE_RUN, headline

SUMMED = ("involuntary_switches",)


class Watch:
    """Looks at the driver and at each host when it is made and at its `end`."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self._seats = seats
        self._nodes = list({seat.node.name: seat.node for seat in seats}.values())
        self._looks: list[list[Snapshot]] = [[node.look()] for node in self._nodes]
        # A look at the driver's own host has seen the driver; on a cluster it may be elsewhere.
        self._driver = self._looks[0] if isinstance(self._nodes[0], Here) else [snapshot()]

    def end(self) -> None:
        """The measured phase is over. A node that is gone is no longer looked at."""
        for node, looks in zip(self._nodes, self._looks, strict=True):
            with suppress(RayError):
                looks.append(node.look())
        if self._driver is not self._looks[0]:
            self._driver.append(snapshot())

    def driver_row(self) -> dict[str, Any]:
        """The driver's row of `threads`."""
        return driver_row(self._driver[0], self._driver[1])

    def columns(self, threads: Sequence[Sequence[Mapping[str, Any]]], *, lag_s: float | None, unprepared: int) -> dict[str, Any]:
        """Columns of a `runs` row; `threads`: rows of the measured threads, a sequence a guest that is left."""
        found: dict[str, dict[str, Any]] = {}
        for number, (node, looks) in enumerate(zip(self._nodes, self._looks, strict=True)):
            if len(looks) == 1:
                continue
            first = not found  # what is the run's, and no host's, is given once
            there = [seat for seat in self._seats if seat.node is node]
            guests = [seat.number for seat in there]
            found[node.name] = watched(
                looks[0],
                looks[1],
                [row for guest in threads for row in guest if row["guest"] in guests],
                lag_s=lag_s if first else None,
                unprepared=unprepared if first else 0,
                exclusive=exclusive([PlannedGuest(seat.number, number, seat.spec) for seat in there]),
            )
        columns = next(iter(found.values())) if len(found) == len(self._nodes) == 1 else _busiest(found)
        return columns | {"driver_cpu_share": driver_cpu_share(self._driver[0], self._driver[1])}


def _busiest(found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Of several hosts' columns, by name: the largest of each, sums of what is counted, what speaks against a host with its
    name."""
    if not found:
        return {"trusted": False, "distrust": "no host of the run could be looked at when it had ended"}
    hosts = list(found.values())
    merged = {
        key: max((one[key] for one in hosts if one[key] is not None), default=None) for key in hosts[0] if key != "distrust"
    }
    merged |= {key: sum(one[key] for one in hosts) for key in SUMMED}
    doubts = [
        doubt if headline(doubt) in OF_THE_RUN else f"{headline(doubt)} on {name}{doubt.removeprefix(headline(doubt))}"
        for name, one in found.items()
        for doubt in (one["distrust"] or "").split("; ")
        if doubt
    ]
    judged = all(one["trusted"] is not None for one in hosts)
    return merged | {"trusted": False if doubts else True if judged else None, "distrust": "; ".join(doubts) or None}
