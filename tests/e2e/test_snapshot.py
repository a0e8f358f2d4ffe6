"""A snapshot file that is cut short while a run reads it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e import events
from tests.e2e.conftest import Start
from tests.e2e.stored import rows
from workers import _native

BYTES = 4 << 20
SEED = 1


@pytest.mark.parametrize("strategy", ["uffd_wait", "file_map"])
def test_a_snapshot_that_shrinks_while_it_is_read_is_named_with_its_sizes(tmp_path: Path, start: Start, strategy: str) -> None:
    snapshot = tmp_path / "snapshot"
    _native.write_snapshot(str(snapshot), BYTES, 4096, SEED)
    asked = (f"strategy={strategy}", "fault_mix=absent", "source=file", f"source.file={snapshot}", f"seed={SEED}")
    driver = start(*asked, "memory.region_mib=4", "access.rate_per_s=100", "cluster.exclusive=false")
    events.measured_phase(tmp_path)
    os.truncate(snapshot, BYTES // 4)
    _, err = driver.communicate(timeout=110)
    [row] = rows(tmp_path)
    assert row["status"] != "ok", err
    assert row["reason"] == f"the snapshot {snapshot} became shorter while it was read: from {BYTES} to {BYTES // 4} bytes"
