"""What is said of runs that are flagged, or were not judged."""

from __future__ import annotations

from typing import Any

from results.summaries.noise import flagged, mark, noise

TRUSTED: dict[str, Any] = {"trusted": True, "distrust": None}
UNJUDGED: dict[str, Any] = {"trusted": None, "distrust": None}
LATE: dict[str, Any] = {"trusted": False, "distrust": "status poll late (0.80 s)"}
BUSY: dict[str, Any] = {"trusted": False, "distrust": "other processes were busy (1.6 of 2 CPUs); status poll late (0.31 s)"}


def test_flagged_runs_and_runs_that_were_not_judged_are_counted_apart() -> None:
    said = list(noise([TRUSTED, LATE, BUSY, UNJUDGED]))
    assert said == [
        "flagged as noisy: 2 of 4 runs: status poll late (2), other processes were busy (1); --trusted-only leaves them out",
        "not judged: 1 of 4 runs; whether the host was quiet is not known",
    ]
    assert list(noise([TRUSTED])) == []
    assert flagged([TRUSTED, LATE, BUSY, UNJUDGED]) == 2
    assert (mark(2, 4), mark(0, 4)) == ("2 of 4", "-")
