"""What several files of tests of the results use."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.store.dataset import DataSet
from tests.results.verifiable import write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set that agrees with itself: one run of two vCPUs, three faults, and a reader that read three events."""
    write_run(DataSet.open(str(tmp_path / "dataset")), "run-a")
    return tmp_path / "dataset"
