"""Rounds of several guests: the driver decides for all of them, and opens each round's gate for all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from loadgen.run import rounds
from loadgen.run.rounds import CommonRounds
from loadgen.run.start_barrier import AHEAD_NS, open_gate


class Call:
    def __init__(self, call: Any) -> None:
        self.remote = call


class Server:
    """A page server whose guest has measured `times` after its rounds. `dies`: how often it does over each method, and another
    one is in its place."""

    def __init__(self, *times: float, dies: dict[str, int] | None = None) -> None:
        self._times, self._dies = list(times), dies or {}
        self.decided: list[tuple[int, bool]] = []
        self.reason = ""
        self.round_finished = Call(lambda finished, timeout_s: self._dying("round_finished") or self._times.pop(0))
        self.decide_round = Call(
            lambda finished, another: self._dying("decide_round") or self.decided.append((finished, another))
        )
        self.abort = Call(lambda reason: setattr(self, "reason", reason))
        self.armed = Call(lambda timeout_s: self._dying("armed") or self)

    def _dying(self, method: str) -> ActorDiedError | None:
        self._dies[method] = self._dies.get(method, 0) - 1
        return ActorDiedError() if self._dies[method] >= 0 else None


@dataclass
class Conducted:
    """Rounds of the guests of `servers`, and how many guests there were at each gate that was opened after the first round."""

    rounds: CommonRounds
    seats: list[Any]
    gates: list[int]


def conducted(
    monkeypatch: pytest.MonkeyPatch, servers: list[Server], *, measure_s: float, most_rounds: int, watchdog_s: float = 60.0
) -> Conducted:
    gates: list[int] = []
    waited_for: list[Server] = []

    def answered(reference: Any, timeout: float) -> Any:
        if isinstance(reference, Exception):
            raise reference
        if isinstance(reference, Server):
            waited_for.append(reference)
        return reference

    def gate(seats: Any, ask: Any, rounds: int) -> None:
        assert waited_for == [seat.server for seat in seats], "a gate is opened when every guest is at its barrier"
        assert rounds == len(gates) + 2
        waited_for.clear()
        gates.append(len(seats))

    monkeypatch.setattr(rounds.ray, "get", answered)
    monkeypatch.setattr(rounds, "open_gate", gate)
    monkeypatch.setattr(rounds, "ASK_AGAIN_S", 0.001)
    seats = [SimpleNamespace(server=server, number=number) for number, server in enumerate(servers)]
    spec: Any = SimpleNamespace(measure_s=measure_s, most_rounds=most_rounds, watchdog_s=watchdog_s, gated=True)
    guests: Any = SimpleNamespace(seats=seats)
    answers: Any = SimpleNamespace(limit_s=1.0)
    return Conducted(CommonRounds(guests, spec, answers), seats, gates)


def conduct(monkeypatch: pytest.MonkeyPatch, servers: list[Server], *, measure_s: float, most_rounds: int) -> int:
    """How often the gate was opened after the first round."""
    made = conducted(monkeypatch, servers, measure_s=measure_s, most_rounds=most_rounds)
    made.rounds._conduct()
    assert set(made.gates) <= {len(servers)}
    return len(made.gates)


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


@pytest.mark.parametrize("method", ["round_finished", "decide_round", "armed"])
def test_the_rounds_go_on_with_a_page_server_that_replaces_one(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    servers = [Server(0.2, 0.6), Server(0.1, 0.3, dies={method: 7})]
    assert conduct(monkeypatch, servers, measure_s=0.5, most_rounds=100) == 1
    assert [server.decided for server in servers] == [[(1, True), (2, False)]] * 2


@pytest.mark.parametrize("method", ["round_finished", "decide_round", "armed"])
def test_the_rounds_go_on_without_a_guest_that_is_lost(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    servers = [Server(0.2, 0.6), Server(0.1, 0.3, dies={method: 10**6})]
    made = conducted(monkeypatch, servers, measure_s=0.5, most_rounds=100)
    tries = []

    def lose(seconds: float) -> bool:
        tries.append(seconds)
        if len(tries) == 3:
            made.seats.pop()
        return False

    monkeypatch.setattr(made.rounds._over, "wait", lose)
    made.rounds._run()
    assert servers[0].decided == [(1, True), (2, False)]
    assert (made.gates, servers[0].reason) == ([1], "")


def test_a_page_server_that_is_not_replaced_ends_the_rounds_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [Server(0.2), Server(0.1, dies={"round_finished": 10**6})]
    conducted(monkeypatch, servers, measure_s=0.5, most_rounds=100, watchdog_s=0.0).rounds._run()
    assert servers[0].reason.startswith("between rounds: ") and "died" in servers[0].reason


def test_a_page_server_that_ends_with_its_run_ends_no_other_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [Server(0.2), Server(0.1, dies={"round_finished": 10**6})]
    made = conducted(monkeypatch, servers, measure_s=0.5, most_rounds=100)
    monkeypatch.setattr(made.rounds._over, "wait", lambda seconds: made.rounds._over.set() or True)
    made.rounds._run()
    assert servers[0].reason == ""


def test_a_gate_is_opened_on_a_host_whose_first_guest_is_lost() -> None:
    released: dict[int, tuple[Any, ...]] = {}

    def ask(method: str, given: Any) -> dict[int, Any]:
        left = [(seat.number, arguments) for seat, arguments in given if seat.number != 0]
        released.update(left if method == "release" else ())
        return {number: 1000 * number for number, _ in left}

    seats: Any = [SimpleNamespace(number=number, node=SimpleNamespace(name="ab"[number // 2])) for number in range(4)]
    open_gate(seats, ask, 3)
    assert released == {1: (1000 + AHEAD_NS, 3), 2: (2000 + AHEAD_NS, 3), 3: (2000 + AHEAD_NS, 3)}
