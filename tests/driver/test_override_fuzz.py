"""No override string that a user can type ends in a traceback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from loadgen.host.probe import Host
from tests.driver.override_strings import COMMANDS, Answers, answers, is_an_answer


@pytest.fixture
def command(host: Host) -> Iterator[Answers]:
    with answers(host) as found:
        yield found


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(typed=COMMANDS)
def test_any_override_is_accepted_or_refused_in_words(command: Answers, typed: tuple[list[str], bool]) -> None:
    overrides, sweeping = typed
    assert is_an_answer(command.to(overrides, sweeping=sweeping))
