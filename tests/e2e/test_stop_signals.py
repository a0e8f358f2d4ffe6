"""A sweep that is asked to end by a signal stores what it measured and leaves nothing, whether it alone or its whole
group gets the signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e import events, processes
from tests.e2e.conftest import Start
from tests.e2e.stored import rows


@pytest.mark.parametrize(
    ("number", "send", "status"),
    [
        (signal.SIGINT, os.kill, 130),
        (signal.SIGTERM, os.kill, 143),
        (signal.SIGTERM, os.killpg, 143),
        (signal.SIGHUP, os.killpg, 129),
    ],
)
def test_a_signal_ends_a_sweep_as_ctrl_c_does(
    tmp_path: Path, start: Start, number: signal.Signals, send: Callable[[int, int], None], status: int
) -> None:
    process = start("-m", "strategy=uffd_wait", "access.rate_per_s=100", "memory.region_mib=4", "repeats=3")
    events.measured_phase(tmp_path)
    send(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "interrupted; what was measured is stored" in err and "Traceback" not in err and "***" not in err
    [row] = rows(tmp_path)
    assert (row["status"], row["reason"]) == ("interrupted", "Ctrl-C" if number == signal.SIGINT else number.name)
    assert 0 < row["faults"] < 1024
    assert processes.folders() == set()
    [ended] = events.so_far(tmp_path, "sweep_ended")
    assert ended["by_status"] == {"interrupted": 1}
