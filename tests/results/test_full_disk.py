"""A real file system without room, and what is left of the data set on it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from results.store.dataset import DataSet, DataSetError
from tests import needs
from workers import _native


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    needs.root()
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def store(dataset: DataSet, run_id: str, faults: int) -> None:
    records = np.zeros(faults, _native.FAULT_DTYPE)
    records["page"] = np.random.default_rng(1).integers(0, 1 << 32, faults)
    records["raised_ns"] = np.random.default_rng(2).integers(1, 1 << 60, faults)
    records["resumed_ns"] = records["raised_ns"] + 1000
    with dataset.writer(run_id, "s-1") as writer:
        writer.faults(_native.KINDS, _native.OUTCOMES).add(np.zeros(faults, np.uint16), records)
        writer.commit({"status": "ok"}, [{"vcpu": 0}])


def test_a_run_that_finds_no_room_is_not_stored_and_the_others_stay_readable(small_disk: Path) -> None:
    dataset = DataSet.open(str(small_disk / "dataset"))
    store(dataset, "s-1-000-00000", 100)
    with pytest.raises(DataSetError, match=r"No space left on device.*; free some space, store fewer faults, or use a data set"):
        store(dataset, "s-1-000-00001", 100_000)
    assert DataSet.existing(str(small_disk / "dataset")).unfinished() == []
    for table, rows in (("runs", 1), ("vcpus", 1), ("faults", 100)):
        assert dataset.read(table).num_rows == rows
    store(dataset, "s-1-000-00002", 100)  # what did not fit has given its room back
    assert dataset.read("runs").num_rows == 2
