"""A Ray that has none of the private names by which it is embedded is started with all of its services, and used; its actors
load nothing of which they send no objects."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.e2e.command import run_program

SERVICES = ["log_monitor", "monitor", "dashboard"]
REPOSITORY = Path(__file__).parents[2]
CODE = f"""
import json, os, sys
import pyarrow
import ray
from loadgen.cluster import embedded_ray
from loadgen.cluster.cluster import Local
from tests.e2e.processes import below, command_line
from workers.actor import SENT_BY_NO_ACTOR, Actor

class Asked(Actor):
    def loaded(self):
        return [name for name in SENT_BY_NO_ACTOR if sys.modules.get(name)]

embedded_ray._private = lambda module: None  # as where Ray has none of these names
local = Local()
try:
    local.start(2)
    lines = {{pid: command_line(pid) for pid in below(os.getpid())}}
    [raylet] = [pid for pid, line in lines.items() if "/raylet " in line]
    services = [one for one in {SERVICES} if any("/" + one + ".py" in line for line in lines.values())]
    answer = ray.get(ray.remote(lambda: 42).remote(), timeout=60)
    actor = ray.remote(Asked).remote(deadman_s=0.0)
    loaded = [ray.get(actor.loaded.remote(), timeout=60) for _ in range(2)][1]  # Ray loads what it needs to send the first
    here = isinstance(sys.modules["pyarrow"], type(sys))
    ours = os.getpgid(raylet) == os.getpgrp()
    print(json.dumps(dict(loaded=loaded, here=here, answer=answer, services=services, in_our_group=ours)))
finally:
    local.close()
"""


def test_a_ray_that_has_other_private_names_is_started_as_it_is_and_used(tmp_path: Path) -> None:
    done = run_program(tmp_path, sys.executable, "-c", CODE, timeout_s=100, settings={"PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr
    expected = {"answer": 42, "services": SERVICES, "in_our_group": True, "loaded": [], "here": True}
    assert json.loads(done.stdout) == expected
