"""Ray as a driver embeds it: without services that nothing asks for; and one that has none of the private names this takes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.e2e.command import run_program

REPOSITORY = Path(__file__).parents[2]
CODE = """
import json, os, sys
import ray
from loadgen.cluster import embedded_ray
from loadgen.cluster.cluster import Local
from tests.e2e.processes import below, command_line

if sys.argv[1] == "unknown":
    embedded_ray._private = lambda module: None
local = Local()
try:
    local.start(2)
    lines = {pid: command_line(pid) for pid in below(os.getpid())}
    [raylet] = [pid for pid, line in lines.items() if "/raylet " in line]
    services = [one for one in ("log_monitor", "monitor", "dashboard") if any(f"/{one}.py" in line for line in lines.values())]
    answer = ray.get(ray.remote(lambda: 42).remote(), timeout=60)
    print(json.dumps({"answer": answer, "services": services, "in_our_group": os.getpgid(raylet) == os.getpgrp()}))
finally:
    local.close()
"""


@pytest.mark.parametrize(
    ("names", "services", "in_our_group"),
    [("known", [], False), ("unknown", ["log_monitor", "monitor", "dashboard"], True)],
)
def test_ray_is_started_alone_and_apart_or_where_it_has_other_private_names_as_it_is(
    tmp_path: Path, names: str, services: list[str], in_our_group: bool
) -> None:
    done = run_program(tmp_path, sys.executable, "-c", CODE, names, timeout_s=100, settings={"PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"answer": 42, "services": services, "in_our_group": in_our_group}
