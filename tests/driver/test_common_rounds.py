"""Rounds of several guests: the driver decides for all of them, and opens each round's gate for all of them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from loadgen.run import rounds
from loadgen.run.rounds import CommonRounds


class Call:
    def __init__(self, call: Any) -> None:
        self.remote = call


class Server:
    """A page server whose guest has measured `times` after its rounds."""

    def __init__(self, *times: float) -> None:
        self._times = list(times)
        self.decided: list[tuple[int, bool]] = []
        self.reason = ""
        self.round_finished = Call(lambda finished, timeout_s: self._times.pop(0))
        self.decide_round = Call(lambda finished, another: self.decided.append((finished, another)))
        self.abort = Call(lambda reason: setattr(self, "reason", reason))
        self.armed = Call(lambda timeout_s: self)


def conduct(monkeypatch: pytest.MonkeyPatch, servers: list[Server], *, measure_s: float, most_rounds: int) -> int:
    """How often the gate was opened after the first round."""
    gates: list[int] = []
    waited_for: list[Server] = []

    def answered(step: str, calls: Any) -> list[Any]:
        waited_for.extend(reference for _, reference in calls if isinstance(reference, Server))
        return [reference for _, reference in calls]

    def gate(seats: Any, ask: Any, rounds: int) -> None:
        assert waited_for == [seat.server for seat in seats], "a gate is opened when every guest is at its barrier"
        assert rounds == len(gates) + 2
        waited_for.clear()
        gates.append(len(seats))

    monkeypatch.setattr(rounds, "open_gate", gate)
    seats = [SimpleNamespace(server=server, number=number) for number, server in enumerate(servers)]
    spec: Any = SimpleNamespace(measure_s=measure_s, most_rounds=most_rounds, watchdog_s=1.0, gated=True)
    guests: Any = SimpleNamespace(seats=seats)
    answers: Any = SimpleNamespace(limit_s=1.0, get=answered)
    CommonRounds(guests, spec, answers)._conduct()
    assert set(gates) <= {len(servers)}
    return len(gates)


def test_the_guests_go_on_together_until_one_has_measured_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [Server(0.2, 0.6), Server(0.1, 0.3)]
    assert conduct(monkeypatch, servers, measure_s=0.5, most_rounds=100) == 1
    assert [server.decided for server in servers] == [[(1, True), (2, False)]] * 2


def test_the_guests_end_together_at_the_most_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [Server(0.1, 0.2, 0.3), Server(0.1, 0.2, 0.3)]
    assert conduct(monkeypatch, servers, measure_s=10.0, most_rounds=3) == 2
    assert servers[1].decided == [(1, True), (2, True), (3, False)]


def test_a_guest_without_room_for_records_ends_the_rounds_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [Server(0.1), Server(math.inf)]
    assert conduct(monkeypatch, servers, measure_s=10.0, most_rounds=100) == 0
    assert servers[0].decided == [(1, False)]


def test_a_round_that_goes_on_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [Server(0.0, 0.6), Server(0.0, 0.6)]
    assert conduct(monkeypatch, servers, measure_s=0.5, most_rounds=100) == 0
    assert servers[0].decided == [(1, False)]
