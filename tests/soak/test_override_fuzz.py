"""100,000 override strings, none of which ends in a traceback."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from loadgen.config.hydra_schema import register
from loadgen.host.probe import probe
from loadgen.sweep.sweeper import register_sweeper
from tests.driver.override_strings import COMMANDS, Answers, answers, is_an_answer


@settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(typed=COMMANDS)
def _refused_or_accepted(command: Answers, typed: tuple[list[str], bool]) -> None:
    overrides, sweeping = typed
    assert is_an_answer(command.to(overrides, sweeping=sweeping))


@pytest.mark.soak
def test_a_hundred_thousand_override_strings_end_in_words() -> None:
    register()
    register_sweeper()
    with answers(probe()) as command:
        _refused_or_accepted(command)
