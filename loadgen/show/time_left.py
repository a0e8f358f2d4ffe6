"""How long a sweep still takes: what the plan expects of each run, corrected by how long the runs so far took."""

from __future__ import annotations

from collections.abc import Sequence

from loadgen.plan.plan import PlannedRun

SESSION_S = 5.0
"""Starting and ending Ray, once a command."""
FIRST_RUN_S = 3.0
"""What the first run needs besides: imports in the actors, calibrations."""
ACTOR_S = 0.5
"""Starting one actor."""
IDLE_SHARE_S = 1.0
"""Measuring what a new number of actors uses while idle."""
TRUST_IN_PLAN_S = 2.0
"""Seconds of runs by which the plan's estimate counts as much as the runs themselves."""


def expected_s(runs: Sequence[PlannedRun]) -> list[float]:
    """Seconds that each of the runs takes, in the order they are made. Actors are started once and kept."""
    expected = []
    numbers: set[int] = set()
    for run in runs:
        actors = sum(guest.spec.vmms + 1 for guest in run.guests)
        started = max(0, actors - max(numbers, default=actors))
        first = 0.0 if numbers else FIRST_RUN_S
        idle = IDLE_SHARE_S if numbers and actors not in numbers else 0.0
        numbers.add(actors)
        expected.append(run.estimated_s + first + idle + started * ACTOR_S)
    return expected


class TimeLeft:
    """Seconds left of runs of which `expected` seconds are known, taken one by one as they end."""

    def __init__(self, expected: Sequence[float]) -> None:
        self._expected = expected
        self._ended, self._took_s = 0, 0.0

    def ended(self, took_s: float) -> None:
        """The next run has ended, after `took_s` seconds."""
        self._ended += 1
        self._took_s += took_s

    def left_s(self, done: float = 0.0) -> float:
        """Seconds until the last run has ended, `done` being the share of the current run that is done; 0 without runs left."""
        slower = (self._took_s + TRUST_IN_PLAN_S) / (sum(self._expected[: self._ended]) + TRUST_IN_PLAN_S)
        current, *others = self._expected[self._ended :] or [0.0]
        return slower * (current * (1 - done) + sum(others))
