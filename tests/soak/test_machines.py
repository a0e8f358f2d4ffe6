"""Every emulated machine of `make machines`, one test each."""

from __future__ import annotations

import pytest

from tests.machines.boot import run
from tests.machines.machine import MACHINES, Machine

pytestmark = pytest.mark.soak


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_test_that_a_machine_can_run_passes_there(machine: Machine) -> None:
    outcome = run(machine)
    assert outcome.good, "\n".join(outcome.failures)
