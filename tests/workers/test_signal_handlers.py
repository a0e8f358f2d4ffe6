"""Other handlers of SIGBUS in the process of a vCPU: Ray installs one of its own when it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.workers.test_actors import PAGES

RUN_RAY_RUN = """
import dataclasses, os, signal
from tests.workers.test_actors import SPEC, run
from workers.page_server import PageServer
from workers.spec import StrategySpec
from workers.vcpu import Vcpu

def exits():
    server, vcpu = PageServer(), Vcpu()
    spec = dataclasses.replace(SPEC, strategy=StrategySpec("no_uffd_wait", {"fault_around_pages": 1}), vcpus=1)
    _, [report] = run(spec, server, [vcpu])
    vcpu.close()
    server.close()
    return sum(row["trips_resolved"] for row in report.vcpus)

print("exits", exits())
import ray
ray.init(num_cpus=1, include_dashboard=False)
ray.shutdown()
print("exits", exits(), flush=True)
os.kill(os.getpid(), signal.SIGBUS)
"""


def test_a_guest_exits_by_sigbus_after_ray_has_started_and_a_bus_error_that_is_no_exit_still_ends_the_process(
    short_path: Path,
) -> None:
    command = [sys.executable, "-c", RUN_RAY_RUN]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(short_path)}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110, env=environment)
    exits = [line for line in ended.stdout.splitlines() if line.startswith("exits ")]
    assert exits == [f"exits {PAGES * 3 // 4}"] * 2, ended.stderr
    assert ended.returncode == -signal.SIGBUS, ended.stderr
    assert "SIGBUS received" in ended.stderr, "Ray's handler had its turn"
