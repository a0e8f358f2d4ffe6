"""The columns that describe a run agree with its configuration: `verify` accuses no run of contradicting itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from loadgen.host.probe import Host
from loadgen.plan.guests_over_hosts import plan_guests
from loadgen.run.run_row import describe
from results.schema import KINDS, OUTCOMES
from results.verify.described import CONFIGURED, LEAST, SCALED, contradictions
from workers import _native

Configure = Callable[..., DictConfig]
CONF = Path(__file__).parents[2] / "conf"
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
CHOICES = sorted(
    f"{file.parent.name}={file.stem}"
    for group in ("access", "fault_mix", "disturb", "memory", "placement", "page_server", "prefetch", "source", "swap")
    for file in (CONF / group).glob("*.yaml")
    if file.stem not in ("trace", "explicit") and (group, file.stem) != ("prefetch", "working_set")  # they need more than a name
)
NUMBERS = [
    "repeat=3",
    "seed=9",
    "guests=2",
    "cores=1",
    "vcpus=4",
    "access.think_us=1.5",
    "access.hold_s=0.25",
    "page_server.delay_us=7.5",
]


@pytest.mark.parametrize("overrides", [*(f"experiment={name}" for name in EXPERIMENTS), *CHOICES, *NUMBERS])
def test_no_configuration_contradicts_its_columns(configure: Configure, host: Host, overrides: str) -> None:
    planned = plan_guests(configure(overrides, "sweep_id=s"), [host])
    row = {**describe(planned), "status": "ok", "duration_s": 1.0, "pages_resolved": 1, "trusted": None}
    assert list(contradictions(row)) == []


def test_every_key_that_a_column_is_checked_against_is_there(configure: Configure, host: Host) -> None:
    row = describe(plan_guests(configure("sweep_id=s"), [host]))
    wrong = {
        column: "another" if isinstance(row[column], str) else 77
        for column in (*CONFIGURED, *SCALED)
        if row.get(column) is not None
    }
    said = {text.partition("=")[0] for text in contradictions({**row, **wrong, "status": "ok"})}
    assert set(wrong) <= said
    assert set(LEAST) <= set(row)


def test_kinds_and_outcomes_are_those_of_the_core() -> None:
    assert tuple(_native.KINDS) == KINDS and tuple(_native.OUTCOMES) == OUTCOMES
