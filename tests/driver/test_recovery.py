"""What a loss is put down to: a page server replaced, another actor lost meanwhile, a silent peer; and clocks that restart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, RayTaskError

from loadgen.cluster.answers import START_LIMIT_S, Answers, Frozen, Stalled, asked
from loadgen.run import measuring, recovery
from loadgen.run.recovery import Suspicion, replace
from tests import specs
from tests.driver.rig import Rig, nothing
from workers.reports import ProcessUsage

WATCHDOG_S = 10.0


def test_a_page_server_that_replaces_another_has_as_long_to_start_as_the_first_one(rig: Rig) -> None:
    answers, server = Answers(WATCHDOG_S), rig.server
    server.node, server.hangs = rig.nodes[0], {"open"}
    with pytest.raises(Stalled):
        answers.get("open", asked([server], "open"))
    replace(server, answers)
    server.hangs |= {"usage"}
    server.pid = lambda: None  # type: ignore[method-assign, assignment, return-value]
    began = rig.ray.clock
    with pytest.raises(Frozen, match=r"server \(not started\) did not answer"):
        answers.get("open", asked([server], "open"))
    assert rig.ray.clock - began > START_LIMIT_S


def test_the_silence_of_a_page_server_is_not_that_of_the_one_in_its_place(rig: Rig) -> None:
    answers, server = Answers(WATCHDOG_S), rig.server
    server.node = rig.nodes[0]
    rig.freeze(server, "open")
    with pytest.raises(Frozen):
        answers.get("open", asked([server], "open"))
    replace(server, answers)
    began = rig.ray.clock
    with pytest.raises(Frozen):
        answers.get("open", asked([server], "open"))
    assert rig.ray.clock - began > WATCHDOG_S


def test_a_vmm_process_that_dies_while_a_page_server_is_replaced_is_named_and_no_other_is_tried(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "monotonic", lambda: rig.server.replaced * WATCHDOG_S)
    rig.unended(nothing)
    for step in ("look", "sign_of_life"):
        rig.server.failures[step] = ActorDiedError()
    rig.vcpus[1].failures["hand_over"] = ActorDiedError()
    row = rig.run("recover=true", "watchdog_s=10")
    assert row["status"] == "crashed" and row["reason"].startswith("vmm1 died: "), row["reason"]
    assert rig.server.replaced == 1


def test_page_servers_that_died_over_a_failover_count_as_recoveries(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    server = rig.server

    def replace() -> None:
        server.replaced += 1
        server.failures = {"take_over": ActorDiedError()} if server.replaced == 1 else {}

    monkeypatch.setattr(server, "replace", replace)
    rig.unended(nothing, nothing, rig.end)
    server.failures = {"look": ActorDiedError(), "sign_of_life": ActorDiedError()}
    row = rig.run("recover=true", "watchdog_s=10")
    assert (row["status"], row["recoveries"], row["trusted"]) == ("ok", 2, False), row["reason"]
    assert row["distrust"] == "the page server was killed and replaced (2)"


def test_a_page_server_that_dies_before_every_guest_is_at_its_barrier_is_replaced(rig: Rig) -> None:
    second = rig.add_guest("there", 5)
    second.failures["armed"] = ActorDiedError()
    row = rig.run("guests=2", "recover=true", "watchdog_s=10")
    assert (row["status"], row["recoveries"], second.replaced, rig.server.replaced) == ("ok", 1, 1, 0), row["reason"]


@pytest.mark.parametrize("method", ["now", "release"])
def test_a_page_server_that_dies_over_the_common_start_is_replaced_and_starts_its_guest_once(rig: Rig, method: str) -> None:
    second = rig.add_guest("there", 5)
    second.failures[method] = ActorDiedError()
    row = rig.run("guests=2", "recover=true", "watchdog_s=10")
    assert (row["status"], row["recoveries"], second.replaced, rig.server.replaced) == ("ok", 1, 1, 0), row["reason"]
    assert rig.journal.count("server.release") == 1


def test_without_recover_a_page_server_that_dies_over_the_common_start_ends_the_run_by_name(rig: Rig) -> None:
    second = rig.add_guest("there", 5)
    second.failures["release"] = ActorDiedError()
    row = rig.run("guests=2", "watchdog_s=10")
    assert row["status"] == "crashed" and row["reason"].startswith("server1 died: "), row["reason"]


def test_without_recover_a_page_server_that_dies_over_its_last_step_is_not_replaced(rig: Rig) -> None:
    rig.server.failures["close"] = ActorDiedError()
    assert rig.run()["status"] == "crashed"
    assert rig.server.replaced == 0


def test_a_guest_that_is_lost_at_its_last_step_makes_the_run_crashed_by_what_was_lost_last(rig: Rig) -> None:
    second = rig.add_guest("there", 5)
    second.failures["finish"] = ActorDiedError()
    second.vcpus[0].failures["hand_over"] = ActorDiedError()
    row = rig.run("guests=2", "recover=true", "watchdog_s=10")
    assert row["status"] == "crashed" and row["reason"].startswith("vmm0 died: "), row["reason"]
    assert second.replaced == 1 and rig.server.replaced == 0


def test_a_guest_whose_page_server_froze_is_polled_no_more(rig: Rig) -> None:
    second = rig.add_guest("there", 5)
    rig.unended(*[nothing] * 60, rig.end)
    for vcpu in second.vcpus:
        vcpu.ended = False
    rig.freeze(second, "look")
    row = rig.run("guests=2", "watchdog_s=10")
    assert row["status"] == "stuck" and row["reason"].startswith("server1 (pid 4711) did not answer for "), row["reason"]
    assert "unanswered_s" in rig.looks[0] and "unanswered_s" not in rig.looks[-1]


def test_a_guest_whose_page_server_died_is_polled_no_more(rig: Rig) -> None:
    second = rig.add_guest("there", 5)
    rig.unended(*[nothing] * 10, rig.end)
    for vcpu in second.vcpus:
        vcpu.ended = False
    second.failures |= {"look": ActorDiedError(), "sign_of_life": ActorDiedError()}
    row = rig.run("guests=2", "watchdog_s=10")
    assert row["status"] == "crashed" and row["reason"].startswith("server1 died: "), row["reason"]
    assert rig.journal.count("server1.look") == 1 and rig.journal.count("server.look") >= 4
    assert {one["guest"] for one in rig.dataset.read("vcpus").to_pylist()} == {0}


def test_what_an_actor_reports_of_a_silent_peer_is_the_peers_silence(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.freeze(rig.server, "serve")
    vmm = rig.vcpus[0]
    vmm.hangs, vmm.failures["open"] = {"open"}, RayTaskError("open", "traceback", TimeoutError("no page server took it"))

    def wait(*arguments: Any, **options: Any) -> Any:
        if rig.ray.clock >= 3.0:
            vmm.hangs = set()
        return rig.ray.wait(*arguments, **options)

    monkeypatch.setattr(ray, "wait", wait)
    row = rig.run("watchdog_s=10")
    assert row["status"] == "stuck", row["reason"]
    assert row["reason"].startswith("server (pid 4711) did not answer for ") and "while another process waited" in row["reason"]
    assert rig.ray.clock < WATCHDOG_S


def test_a_step_is_stalled_by_the_time_since_it_worked_last(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    server, worked_s = rig.server, 5 * WATCHDOG_S
    server.hangs = {"close"}
    monkeypatch.setattr(server, "do_usage", lambda: ProcessUsage(min(rig.ray.clock, worked_s), 0, 0))

    def wait(*arguments: Any, **options: Any) -> Any:
        if rig.ray.clock > worked_s + WATCHDOG_S / 2:
            server.hangs = set()
        return rig.ray.wait(*arguments, **options)

    monkeypatch.setattr(ray, "wait", wait)
    assert Answers(WATCHDOG_S).get("close", asked([server], "close")) == [None]


def status(accesses: int) -> dict[str, Any]:
    """Of a guest whose vCPUs have made so many accesses."""
    return {"accesses": accesses, "faults": 0, "pages_resolved": 0, "running": 1, "finished": 0, "standing": []}


def test_the_drivers_watchdog_counts_from_the_latest_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(measuring, "time", SimpleNamespace(monotonic=lambda: clock.now))
    deadline = measuring.Deadline(specs.run(watchdog_s=WATCHDOG_S))
    for accesses in range(10):
        clock.now += deadline.limit_s
        assert not deadline.passed(status(accesses))
    clock.now += deadline.limit_s
    assert not deadline.passed(status(9))
    clock.now += 1.0
    assert deadline.passed(status(9))


def test_a_process_is_suspected_when_nothing_has_changed_since_the_latest_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(recovery, "monotonic", lambda: clock.now)
    suspicion = Suspicion()
    for accesses in range(10):
        clock.now += recovery.SUSPECTED_FROM_S
        assert not suspicion.raised(status(accesses), [])
    clock.now += recovery.SUSPECTED_FROM_S
    assert suspicion.raised(status(9), [])
