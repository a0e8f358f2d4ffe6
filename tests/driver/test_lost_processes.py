"""Processes of a run die, freeze or stall, on fake actors: the run ends by name, what is left of it is stored."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from loadgen.cluster import answers
from loadgen.run import measuring
from tests.driver.rig import Rig, nothing


def test_the_watchdog_makes_the_run_stuck_and_keeps_its_words(rig: Rig) -> None:
    rig.server.reason = "stuck: vCPU 1 made no progress for 1.0 s: page 9 is in flight"
    row = rig.run()
    assert (row["status"], row["reason"]) == ("stuck", "vCPU 1 made no progress for 1.0 s: page 9 is in flight")


@pytest.mark.parametrize("step", ["open", "prepare", "run", "finish", "verify", "fault_chunk", "close"])
def test_a_vmm_process_that_dies_at_any_step_makes_the_run_crashed_and_is_named(rig: Rig, step: str) -> None:
    rig.vcpus[1].failures[step] = ActorDiedError()
    row = rig.run()
    assert row["status"] == "crashed"
    assert row["reason"].startswith("vmm1 died: ")
    assert rig.session.renewed == 1


def test_a_dead_vmm_process_takes_only_its_own_vcpus_with_it(rig: Rig) -> None:
    rig.unended(nothing, nothing, rig.end)
    rig.vcpus[0].failures["run"] = ActorDiedError()
    row = rig.run()
    assert row["status"] == "crashed" and row["reason"].startswith("vmm0 died: ")
    assert (row["accesses"], row["fault_records"]) == (11, 11)
    [vcpu] = rig.dataset.read("vcpus").to_pylist()
    assert (vcpu["vcpu"], vcpu["vmm"]) == (1, 1)
    assert rig.session.renewed == 1


def test_a_vmm_process_that_dies_before_the_start_ends_the_wait_of_the_others(rig: Rig) -> None:
    rig.server.begun = False
    rig.unended()
    rig.vcpus[0].failures["run"] = ActorDiedError()
    assert rig.run()["status"] == "crashed"
    assert rig.server.reason == "a VMM process was lost before the start"


@pytest.mark.parametrize("step", ["look", "stop_reason", "finish", "close", "open", "serve"])
def test_a_page_server_that_dies_at_any_step_is_succeeded_and_the_run_is_whole(rig: Rig, step: str) -> None:
    rig.unended(nothing, nothing, nothing, rig.end)
    rig.server.failures[step] = rig.server.failures["sign_of_life"] = ActorDiedError()
    row = rig.run("recover=true", "watchdog_s=10")
    assert (row["status"], row["accesses"], row["fault_records"]) == ("ok", 21, 21), row["reason"]
    assert rig.server.replaced == 1
    if step == "close":  # its guest is no more: there is nothing to take over
        assert "server.take_over" not in rig.journal
    measured = step in ("look", "stop_reason", "finish")
    handed = [one for one in rig.journal if one.endswith(".hand_over")]
    assert sorted(handed) == (["vmm0.hand_over", "vmm1.hand_over"] if measured else []), "every VMM process, once"
    assert row["recoveries"] == (1 if measured else 0)  # before and after it there is nothing that could be lost
    assert (row["trusted"] is False) == measured


def test_without_recover_a_page_server_that_dies_ends_the_run_by_name(rig: Rig) -> None:
    rig.unended(nothing)
    for step in ("look", "sign_of_life"):
        rig.server.failures[step] = ActorDiedError()
    row = rig.run()
    assert row["status"] == "crashed" and row["reason"].startswith("server died: ")
    assert (rig.server.replaced, rig.session.renewed) == (0, 1)


@pytest.mark.parametrize(("start_s", "tries"), [(1.0, 10), (60.0, 5)])
def test_page_servers_that_die_one_after_the_other_end_the_run_after_the_watchdogs_time_and_some_tries(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, start_s: float, tries: int
) -> None:
    def replace() -> None:
        rig.server.replaced += 1

    monkeypatch.setattr("loadgen.run.recovery.monotonic", lambda: rig.server.replaced * start_s)
    monkeypatch.setattr(rig.server, "replace", replace)
    rig.unended(nothing)
    for step in ("look", "sign_of_life", "take_over"):
        rig.server.failures[step] = ActorDiedError()
    assert rig.run("recover=true", "watchdog_s=10")["status"] == "crashed"
    assert rig.server.replaced == tries


def test_a_run_that_stands_still_without_a_word_is_ended_by_the_driver(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "STOP_GRACE_S", -1.0)  # the watchdog's second and this: no time at all
    rig.unended(*[nothing] * 5)
    row = rig.run()
    assert row["status"] == "stuck"
    assert row["reason"] == "stalled: no progress for 0 s, and no watchdog fired"
    assert "server.abort" in rig.journal


def test_a_vmm_process_that_dies_on_its_way_to_the_barrier_is_not_waited_for(rig: Rig) -> None:
    server = rig.add_guest("there", 5)
    server.arms = False
    server.vcpus[1].failures["run"] = ActorDiedError()
    assert rig.run("guests=2")["status"] == "crashed"
    assert "server.release" not in rig.journal


def test_a_guest_that_is_lost_with_its_host_leaves_the_others_to_their_end_and_to_the_tables(rig: Rig) -> None:
    second = rig.add_guest("there", 5)
    for vcpu in (*rig.vcpus, *second.vcpus):
        vcpu.ended = False

    def lose() -> None:
        for step in ("look", "sign_of_life"):
            second.failures[step] = ActorDiedError()
        rig.nodes[1].gone = True

    rig.ray.waits = [lose, nothing, rig.end]
    row = rig.run("guests=2", "watchdog_s=10")
    assert row["status"] == "crashed", row["reason"]
    assert {one["guest"] for one in rig.dataset.read("vcpus").to_pylist()} == {0}
    assert row["pages_resolved"] == row["fault_records"] == 21
    assert row["watched_s"] > 0


def test_a_run_whose_hosts_are_all_gone_at_its_end_is_stored_and_not_trusted(rig: Rig) -> None:
    rig.unended(lambda: setattr(rig.nodes[0], "gone", True), rig.end)
    row = rig.run("watchdog_s=10")
    assert (row["status"], row["trusted"], row["fault_records"]) == ("ok", False, 21), row["reason"]
    assert row["distrust"] == "no host of the run could be looked at when it had ended"


def test_one_guest_of_two_on_a_host_is_lost_and_the_other_is_stored(rig: Rig) -> None:
    second = rig.add_guest("here", 5)
    rig.nodes[1] = rig.nodes[0]
    for vcpu in (*rig.vcpus, *second.vcpus):
        vcpu.ended = False

    def lose() -> None:
        for step in ("look", "sign_of_life"):
            rig.server.failures[step] = ActorDiedError()

    def end() -> None:
        for vcpu in second.vcpus:
            vcpu.ended = True

    rig.ray.waits = [lose, nothing, end]
    row = rig.run("guests=2", "watchdog_s=10")
    assert row["status"] == "crashed", row["reason"]
    assert {one["guest"] for one in rig.dataset.read("vcpus").to_pylist()} == {1}


def test_a_page_server_that_dies_before_anything_was_prepared_is_succeeded_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([ActorDiedError(), None])

    def idle_cpu_share(_: object) -> float:
        if (error := next(shares)) is not None:
            rig.server.failures["sign_of_life"] = error
            raise answers.died(rig.server, error)
        return 0.0

    monkeypatch.setattr(rig.session, "idle_cpu_share", idle_cpu_share)
    row = rig.run("recover=true")
    assert (row["status"], rig.server.replaced, row["recoveries"]) == ("ok", 1, 0), row["reason"]


@pytest.mark.parametrize("step", ["open", "serve", "stop_reason", "finish", "close"])
def test_a_page_server_that_freezes_at_any_step_makes_the_run_stuck_and_is_named_within_the_watchdogs_time(
    rig: Rig, step: str
) -> None:
    rig.freeze(rig.server, step)
    row = rig.run("watchdog_s=10")
    assert row["status"] == "stuck", row["reason"]
    assert row["reason"].startswith("server (pid 4711) did not answer for 12 s in step ")
    assert row["reason"].endswith(": it is stopped by a signal (SIGSTOP)")
    assert rig.ray.clock <= 10 + 5
    assert rig.session.renewed == 1


@pytest.mark.parametrize("step", ["open", "prepare", "finish", "verify", "fault_chunk", "close"])
def test_a_vmm_process_that_freezes_at_any_step_makes_the_run_stuck_and_is_named_within_the_watchdogs_time(
    rig: Rig, step: str
) -> None:
    rig.freeze(rig.vcpus[1], step)
    row = rig.run("watchdog_s=10")
    assert row["status"] == "stuck", row["reason"]
    assert row["reason"].startswith("vmm1 (pid 4711) did not answer for 12 s in step ")
    assert rig.ray.clock <= 10 + 5


@pytest.mark.parametrize("step", ["open", "prepare", "finish", "verify", "fault_chunk", "close"])
def test_a_step_whose_processes_answer_and_do_nothing_is_ended_within_the_watchdogs_time(rig: Rig, step: str) -> None:
    rig.vcpus[1].hangs = {step}
    row = rig.run("watchdog_s=10")
    assert row["status"] == "stuck", row["reason"]
    assert row["reason"].startswith("vmm1 (pid 4711) made no progress in step ")
    assert rig.ray.clock <= 10 + 5


def test_a_frozen_vmm_process_is_killed_and_the_others_run_to_their_end(rig: Rig) -> None:
    rig.unended(*[nothing] * 40, rig.end)
    rig.freeze(rig.vcpus[0], "run")
    row = rig.run("watchdog_s=10")
    assert row["status"] == "stuck" and row["reason"].startswith("vmm0 (pid 4711) did not answer for "), row["reason"]
    assert rig.vcpus[0].killed
    [vcpu] = rig.dataset.read("vcpus").to_pylist()
    assert vcpu["vmm"] == 1


def test_a_frozen_page_server_is_named_with_the_reason_of_the_vmm_process_whose_watchdog_ended_the_run(rig: Rig) -> None:
    rig.freeze(rig.server, "stop_reason")
    rig.vcpus[0].watchdog_fired = True
    row = rig.run("watchdog_s=10")
    assert row["status"] == "stuck"
    assert row["reason"].endswith("; vmm0: vCPU 0 made no progress for 1.0 s"), row["reason"]


def test_what_an_actor_reports_of_a_peer_that_died_is_the_peers_death(rig: Rig) -> None:
    rig.vcpus[0].failures["open"] = RayTaskError("open", "traceback", ConnectionError("the page server (pid 1) is gone"))
    rig.server.failures["serve"] = ActorDiedError()
    row = rig.run()
    assert (row["status"], row["reason"].partition(":")[0]) == ("crashed", "server died")


def lost_after(rig: Rig, **pressure: int) -> str:
    """The reason of a run whose second VMM process is gone once the host's counters are these."""
    rig.unended(lambda: vars(rig.nodes[0]).update(pressure), rig.end)
    rig.vcpus[1].failures["finish"] = ActorDiedError()
    row = rig.run()
    assert row["status"] == "crashed"
    return str(row["reason"])


@pytest.mark.parametrize(
    ("pressure", "short"),
    [
        ({"oom_kills": 1, "host_oom_kills": 1}, "the host has no memory left"),
        ({"oom_kills": 1, "limit_reached": 1}, "the control group reached its limit (/g/memory.max)"),
    ],
)
def test_a_process_that_was_killed_for_lack_of_memory_is_lost_for_that_reason(
    rig: Rig, pressure: dict[str, int], short: str
) -> None:
    assert lost_after(rig, **pressure).startswith(f"a process was killed for lack of memory: {short}; vmm1 died: ")


def test_a_kill_for_lack_of_memory_beside_the_actors_group_is_not_the_reason_of_a_lost_process(rig: Rig) -> None:
    reason = lost_after(rig, host_oom_kills=1, limit_reached=1)
    assert reason.startswith("vmm1 died: ") and "lack of memory" not in reason


def test_a_kill_for_lack_of_memory_that_only_the_host_counts_is_named_and_not_taken_for_the_reason(rig: Rig) -> None:
    rig.nodes[0].oom_kills = None
    reason = lost_after(rig, host_oom_kills=1)
    assert reason.startswith("vmm1 died: ")
    assert reason.endswith("; a process was killed for lack of memory meanwhile, this one or another")


def test_a_memory_error_is_the_reason_of_a_lost_process_whatever_was_killed_for_lack_of_memory(rig: Rig) -> None:
    rig.server.reason = "memory error: page 3 is poisoned"
    assert lost_after(rig, oom_kills=1, host_oom_kills=1) == "memory error: page 3 is poisoned"


def test_a_snapshot_that_became_shorter_is_the_reason_of_a_run_that_could_not_read_it(rig: Rig) -> None:
    rig.server.reason = "page server: Input/output error"
    rig.server.shorter = "the snapshot /s became shorter while it was read: from 8192 to 4096 bytes"
    row = rig.run("source=file", "fault_mix=absent")
    assert (row["status"], row["reason"]) == ("failed", rig.server.shorter)
