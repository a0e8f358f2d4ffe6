"""A Ray that has none of the private names by which it is embedded is started with all of its services, and used."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.e2e.command import run_program

SERVICES = ["log_monitor", "monitor", "dashboard"]
REPOSITORY = Path(__file__).parents[2]
CODE = f"""
import json, os
import ray
from loadgen.cluster import embedded_ray
from loadgen.cluster.cluster import Local
from tests.e2e.processes import below, command_line

embedded_ray._private = lambda module: None  # as where Ray has none of these names
local = Local()
try:
    local.start(2)
    lines = {{pid: command_line(pid) for pid in below(os.getpid())}}
    [raylet] = [pid for pid, line in lines.items() if "/raylet " in line]
    services = [one for one in {SERVICES} if any("/" + one + ".py" in line for line in lines.values())]
    answer = ray.get(ray.remote(lambda: 42).remote(), timeout=60)
    print(json.dumps(dict(answer=answer, services=services, in_our_group=os.getpgid(raylet) == os.getpgrp())))
finally:
    local.close()
"""


def test_a_ray_that_has_other_private_names_is_started_as_it_is_and_used(tmp_path: Path) -> None:
    done = run_program(tmp_path, sys.executable, "-c", CODE, timeout_s=100, settings={"PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"answer": 42, "services": SERVICES, "in_our_group": True}
