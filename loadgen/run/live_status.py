"""Status polls of the guests of a run, answered by their page servers. A page server may not answer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray

POLL_S = 0.5

NOTHING_SEEN = {
    "seconds": 0.0,
    "accesses": 0,
    "faults": 0,
    "pages_resolved": 0,
    "running": 0,
    "finished": 0,
    "faults_by_kind": {},
    "latency_p99_ns": None,
    "standing": [],
}
"""The status before the first answer."""


class GuestStatus:
    """Polls the status of one guest. While the page server does not answer, the latest status is returned, with `unanswered_s`.

    `lag_s`: the most by which an answer came late, None before the first was due.
    """

    def __init__(self, server: Any) -> None:
        self.lag_s: float | None = None
        self._server = server
        self._asked: Any = None
        self._due = 0.0
        self._latest: dict[str, Any] = NOTHING_SEEN

    def renew(self, server: Any) -> None:
        """Drop the pending poll when `server`, which has died, is the page server of this guest."""
        if self.of(server):
            self._asked = None

    def of(self, server: Any) -> bool:
        """Whether this is the guest of `server`."""
        return self._server is server

    def ask(self, due: float) -> None:
        """Start the poll that is due at `due` (monotonic clock), unless one is pending."""
        if self._asked is None:
            self._asked, self._due = self._server.look.remote(), due

    def take(self) -> dict[str, Any]:
        """The answer of the poll; waits at most until the next poll is due."""
        answered, _ = ray.wait([self._asked], num_returns=1, timeout=POLL_S)
        late_s = time.monotonic() - self._due
        self.lag_s = max(self.lag_s or 0.0, late_s)
        if not answered:
            return self._latest | {"unanswered_s": late_s}
        self._latest = ray.get(answered[0])
        self._asked = None
        return self._latest


class RunStatus:
    """Status polls of all guests of a run, combined into one status."""

    def __init__(self, servers: Sequence[Any], vcpus: int) -> None:
        self._guests, self._vcpus = [GuestStatus(server) for server in servers], vcpus

    @property
    def lag_s(self) -> float | None:
        """The most by which an answer came late, None before the first was due."""
        return max((one.lag_s for one in self._guests if one.lag_s is not None), default=None)

    def renew(self, server: Any) -> None:
        """This page server has died and was replaced."""
        for guest in self._guests:
            guest.renew(server)

    def drop(self, server: Any) -> None:
        """This page server's guest is lost."""
        self._guests = [guest for guest in self._guests if not guest.of(server)]

    def take(self, due: float) -> dict[str, Any]:
        """The status of the poll that was due at `due` (monotonic clock)."""
        for guest in self._guests:
            guest.ask(due)
        return together([guest.take() for guest in self._guests], self._vcpus)


def together(several: Sequence[dict[str, Any]], vcpus: int) -> dict[str, Any]:
    """Combine the status of several guests of `vcpus` each: counts are summed; times and the 99th percentile are the largest."""
    if len(several) == 1:
        return several[0]
    sums = {key: sum(one[key] for one in several) for key in ("accesses", "faults", "pages_resolved", "running", "finished")}
    kinds: Counter[str] = Counter()
    for one in several:
        kinds.update(one["faults_by_kind"])
    unanswered = [one["unanswered_s"] for one in several if "unanswered_s" in one]
    return {
        **sums,
        "seconds": max(one["seconds"] for one in several),
        "faults_by_kind": dict(kinds),
        "latency_p99_ns": max((one["latency_p99_ns"] for one in several if one["latency_p99_ns"] is not None), default=None),
        "standing": [
            vcpu | {"vcpu": vcpu["vcpu"] + guest * vcpus} for guest, one in enumerate(several) for vcpu in one["standing"]
        ],
        **({"unanswered_s": max(unanswered)} if unanswered else {}),
    }
