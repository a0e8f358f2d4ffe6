"""Runs of random legal configurations, some of whose processes are killed, paused or frozen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.random_runs import make_and_check

RUNS = 30
SEED = 1


@pytest.mark.usefixtures("huge_pages")
def test_thirty_runs_of_random_configurations_end_as_they_should_and_leave_nothing(tmp_path: Path) -> None:
    make_and_check(tmp_path, SEED, range(RUNS))
