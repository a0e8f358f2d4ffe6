"""Random legal configurations, by the hundred."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak.random_runs import make_and_check

pytestmark = pytest.mark.soak
RUNS = int(os.environ.get("UFFD_LOADGEN_SOAK_RUNS", "500"))
SEED = int(os.environ.get("UFFD_LOADGEN_SOAK_SEED", "1"))


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("huge_pages")
def test_five_hundred_runs_of_random_configurations_end_as_they_should_and_leave_nothing(tmp_path: Path) -> None:
    make_and_check(tmp_path, SEED, range(RUNS))
