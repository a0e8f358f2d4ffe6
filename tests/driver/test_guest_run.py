"""One run on fake actors: the order of the seam, and that whatever happens the run leaves a row that says so."""

from __future__ import annotations

import dataclasses
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from omegaconf import DictConfig
from ray.exceptions import ActorDiedError, RayTaskError

from loadgen.cluster import answers
from loadgen.host import interference as self_watch
from loadgen.host.cgroups import Quota
from loadgen.host.changes import HostChangeError
from loadgen.host.limits import Limits
from loadgen.host.probe import Host
from loadgen.plan.guests_over_hosts import plan_guests
from loadgen.run import measuring
from loadgen.run.run import run_guests
from loadgen.run.start_barrier import AHEAD_NS
from results.store.dataset import DataSet
from tests.driver.fakes import Actor, FakeNode, FakeRay, FakeServer, FakeSession, FakeVcpu


class Rig:
    """Two VMM processes and a page server, a data set, and what the run left in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, configure: Callable[..., DictConfig], host: Host) -> None:
        self.configure, self.host = configure, host
        self.journal: list[str] = []
        self.server = FakeServer(self.journal)
        self.vcpus = [FakeVcpu(number, 10 + number, self.journal) for number in range(2)]
        self.server.vcpus = self.vcpus
        self.nodes = [FakeNode("here", host)]
        self.session = FakeSession(self.nodes, [(self.server, self.vcpus)])
        self.dataset = DataSet.open(str(folder / "dataset"))
        self.ray = FakeRay()
        self.looks: list[dict[str, Any]] = []
        monkeypatch.setattr(ray, "get", self.ray.get)
        monkeypatch.setattr(ray, "wait", self.ray.wait)
        monkeypatch.setattr(measuring, "POLL_S", 0.0)
        monkeypatch.setattr(answers, "monotonic", self.ray.monotonic)
        # How busy this machine is while a test runs is no matter of the seam; test_self_watch.py is about it.
        monkeypatch.setattr(self_watch, "JUDGED_FROM_S", math.inf)
        monkeypatch.setattr(self_watch, "MOST_LAG_S", math.inf)

    def run(self, *overrides: str) -> dict[str, Any]:
        cfg = self.configure("sweep_id=sweep", "vcpus=2", "watchdog_s=1", *overrides)
        planned = plan_guests(cfg, [node.host for node in self.nodes])
        run_guests(self.session, planned, self.dataset, self.looks.append)  # type: ignore[arg-type]
        return self.row()

    def row(self) -> dict[str, Any]:
        [row] = self.dataset.read("runs").to_pylist()
        return row

    def add_guest(self, node: str, records: int) -> FakeServer:
        """One more guest of two VMM processes, on a host of its own."""
        name = f"server{len(self.session.guests)}"
        server = FakeServer(self.journal)
        server.name = name
        server.vcpus = [FakeVcpu(number, records, self.journal) for number in range(2)]
        self.nodes.append(FakeNode(node, self.host))
        self.session.guests.append((server, server.vcpus))
        return server

    def unended(self, *waits: Callable[[], None]) -> None:
        """vCPUs that do not end by themselves; what happens in each wait of the driver."""
        for vcpu in self.vcpus:
            vcpu.ended = False
        self.ray.waits = list(waits)

    def end(self) -> None:
        for vcpu in self.vcpus:
            vcpu.ended = True

    def freeze(self, actor: Actor, step: str) -> None:
        """The actor answers nothing from this step on."""
        actor.freezes_at = step


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configure: Callable[..., DictConfig], host: Host) -> Rig:
    return Rig(tmp_path, monkeypatch, configure, host)


def interrupt() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been ignored as the tests were started
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def nothing() -> None:
    pass


def test_a_run_goes_through_the_steps_of_the_seam_in_order(rig: Rig) -> None:
    assert rig.run()["status"] == "ok"
    steps = list(dict.fromkeys(entry.split(".")[1] for entry in rig.journal))
    steps = [step for step in steps if step not in ("look", "stop_reason")]
    assert steps == ["open", "serve", "prepare", "run", "finish", "verify", "fault_chunk", "close"]
    opened = [entry for entry in rig.journal if entry.endswith(".open")]
    assert opened == ["server.open", "vmm0.open", "vmm1.open"]
    finished = [entry for entry in rig.journal if entry.endswith(".finish")]
    assert finished == ["server.finish", "vmm0.finish", "vmm1.finish"]
    assert {entry for entry in rig.journal if entry.endswith(".close")} == {"server.close", "vmm0.close", "vmm1.close"}


def test_the_row_of_a_run_says_what_it_was_and_what_it_gave(rig: Rig) -> None:
    row = rig.run()
    assert (row["strategy"], row["fault_mix"], row["vcpus"], row["host"]) == ("uffd_wait", "minor", 2, "here")
    assert (row["accesses"], row["faults"], row["pages_resolved"], row["fault_records"]) == (21, 21, 21, 21)
    assert (row["fill_s"], row["duration_s"]) == (0.25, 2.0)
    assert row["wall_s"] == pytest.approx(10.0, abs=0.5)
    assert row["overhead_s"] == pytest.approx(row["wall_s"] - 0.25 - 2.0 - row["verify_s"])
    assert (row["trips"], row["events"], row["requests"]) == (8, 7, 10)  # a request is one, asked and answered
    assert row["achieved_delay_us"] == 4.5
    assert row["config_json"].startswith("{")
    vcpus = rig.dataset.read("vcpus").to_pylist()
    assert [(vcpu["vcpu"], vcpu["vmm"], vcpu["pages_resolved"]) for vcpu in vcpus] == [(0, 0, 10), (1, 1, 11)]


def test_what_every_thread_used_is_stored_and_the_run_says_what_the_rig_cost(rig: Rig) -> None:
    row = rig.run()
    threads = rig.dataset.read("threads").to_pylist()
    assert [(thread["role"], thread["number"], thread["vmm"]) for thread in threads] == [
        ("vcpu", 0, 0),
        ("vcpu", 1, 1),
        ("reader", 0, None),
        ("driver", 0, None),
    ]
    assert [thread["user_ns"] for thread in threads[:3]] == [1000, 1000, 0]
    assert [thread["events"] for thread in threads] == [None, None, 7, None]
    assert row["involuntary_switches"] == 9
    assert row["idle_actors_cpu_share"] == 0.05
    assert row["watched_s"] > 0 and row["rig_cpu_share"] >= 0
    assert (row["trusted"], row["distrust"]) == (True, None)


def test_pages_that_were_not_in_the_state_asked_for_make_a_run_one_not_to_be_trusted(rig: Rig) -> None:
    rig.vcpus[0].unprepared = 2
    row = rig.run()
    assert (row["status"], row["unprepared"], row["trusted"]) == ("ok", 2, False)
    assert row["distrust"] == "pages were not in the state asked for (2)"
    assert row["reason"] == "2 pages could not be brought into the state asked for"


def test_a_host_that_refuses_its_swap_makes_the_run_a_failed_row(rig: Rig) -> None:
    rig.session.host_changes.refusal = HostChangeError("swap=zram of 16 MiB cannot be set up: no")
    row = rig.run("swap=zram", "fault_mix=swapped", "memory.region_mib=8")
    assert (row["status"], row["reason"]) == ("failed", "swap=zram of 16 MiB cannot be set up: no")
    assert (row["swap"], row["swap_bytes"]) == ("zram", 13 << 20)


def test_a_run_that_was_not_measured_is_neither_trusted_nor_not(rig: Rig) -> None:
    rig.server.failures["serve"] = RayTaskError("serve", "traceback", ConnectionError("nobody came"))
    assert rig.run()["trusted"] is None


def test_what_a_remote_source_sent_is_in_the_row_and_the_session_starts_one_when_none_was_given(rig: Rig) -> None:
    counts = {"on_demand": 4, "pushed": 3, "twice": 2, "requests": 5, "retries": 1, "bytes": 999, "rtt_p50_us": 12.5}
    rig.server.source = dict(counts)
    row = rig.run("source=remote", "fault_mix=absent", "source.push=true")
    assert row["status"] == "ok", row["reason"]
    assert rig.journal[0] == "source.open"
    assert (row["source"], row["source_address"], row["source_push"]) == ("remote", "10.0.0.2:7001", True)
    stored = ["fetched_on_demand", "fetched_pushed", "fetched_twice", "source_requests", "source_retries", "source_bytes"]
    assert [row[key] for key in (*stored, "source_rtt_p50_us")] == list(counts.values())


def test_a_source_elsewhere_is_used_as_it_is(rig: Rig) -> None:
    rig.run("source=remote", "fault_mix=absent", "source.address=there:1")
    assert "source.open" not in rig.journal
    assert rig.row()["source_address"] == "there:1"


def test_without_a_remote_source_nothing_is_pushed_and_its_columns_are_empty(rig: Rig) -> None:
    row = rig.run()
    assert (row["source"], row["fetched_pushed"], row["fetched_twice"]) == ("local", 0, 0)
    assert row["source_requests"] is row["source_rtt_p50_us"] is row["source_push"] is None


def test_every_fault_is_stored_once_however_the_chunks_fall(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadgen.run.run.CHUNK_FAULTS", 5)  # vCPU 0's ten are two full chunks, vCPU 1's eleven are not
    rig.run()
    faults = rig.dataset.read("faults", ["vcpu", "page"]).to_pylist()
    assert sorted((fault["vcpu"], fault["page"]) for fault in faults) == [(v, p) for v in range(2) for p in range(10 + v)]


def test_progress_is_looked_at_while_the_vcpus_run(rig: Rig) -> None:
    rig.unended(nothing, nothing, rig.end)
    assert rig.run()["status"] == "ok"
    assert len(rig.looks) >= 2


def test_a_page_server_that_does_not_answer_is_seen_and_does_not_hold_the_driver_up(rig: Rig) -> None:
    rig.server.answers = False
    rig.unended(*[nothing] * 4, rig.end)
    assert rig.run()["status"] == "ok"
    assert rig.looks and all(look["unanswered_s"] >= 0 and look["accesses"] == 0 for look in rig.looks)
    assert rig.journal.count("server.look") == 1


def test_verification_is_left_out_when_it_is_not_asked_for(rig: Rig) -> None:
    rig.run("verify=none")
    assert not [entry for entry in rig.journal if entry.endswith(".verify")]


def test_a_wrong_word_makes_the_run_corrupt_and_names_it(rig: Rig) -> None:
    rig.vcpus[1].found |= {"wrong_words": 3, "first_wrong": "page 7: there was 1, should be 2"}
    row = rig.run()
    assert (row["status"], row["reason"], row["wrong_words"]) == ("corrupt", "page 7: there was 1, should be 2", 3)


def test_the_watchdog_makes_the_run_stuck_and_keeps_its_words(rig: Rig) -> None:
    rig.server.reason = "stuck: vCPU 1 made no progress for 1.0 s: page 9 is in flight"
    row = rig.run()
    assert (row["status"], row["reason"]) == ("stuck", "vCPU 1 made no progress for 1.0 s: page 9 is in flight")


def test_a_guest_stopped_for_another_reason_makes_the_run_failed(rig: Rig) -> None:
    rig.server.reason = "page server: bad address"
    row = rig.run()
    assert (row["status"], row["reason"]) == ("failed", "page server: bad address")


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


def test_an_error_of_an_actor_makes_the_run_failed_with_the_errors_words(rig: Rig) -> None:
    rig.server.failures["serve"] = RayTaskError("serve", "traceback", ConnectionError("VMM process 1 did not come"))
    row = rig.run()
    assert (row["status"], row["reason"]) == ("failed", "VMM process 1 did not come")
    assert rig.session.renewed == 1
    assert row["pages_resolved"] is None


def test_ctrl_c_stops_the_guest_and_keeps_what_was_measured(rig: Rig) -> None:
    rig.unended(nothing, interrupt)
    with pytest.raises(KeyboardInterrupt):
        rig.run()
    row = rig.row()
    assert (row["status"], row["reason"], row["fault_records"]) == ("interrupted", "Ctrl-C", 21)
    assert "server.abort" in rig.journal


def test_ctrl_c_ends_the_sweep_though_the_guest_does_not_stop(rig: Rig) -> None:
    rig.server.abort_works = False
    rig.unended(nothing, interrupt)
    with pytest.raises(KeyboardInterrupt):
        rig.run()
    assert rig.row()["status"] == "interrupted"


def test_ctrl_c_while_faults_are_stored_is_an_interrupted_run(rig: Rig) -> None:
    rig.vcpus[0].failures["fault_chunk"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        rig.run()
    assert rig.row()["status"] == "interrupted"


def test_a_run_that_stands_still_without_a_word_is_ended_by_the_driver(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "STOP_GRACE_S", -1.0)  # the watchdog's second and this: no time at all
    rig.unended(*[nothing] * 5)
    row = rig.run()
    assert row["status"] == "stuck"
    assert row["reason"] == "stalled: no progress for 0 s, and no watchdog fired"
    assert "server.abort" in rig.journal


def test_a_run_is_never_stored_twice_under_one_id(rig: Rig) -> None:
    rig.run()
    with pytest.raises(Exception, match="already there"):
        rig.run()


def test_guests_on_several_hosts_are_one_run_whose_rows_say_where_each_was(rig: Rig) -> None:
    second = rig.add_guest("there", 5)
    row = rig.run("guests=2")
    assert (row["status"], row["guests"]) == ("ok", 2), row["reason"]
    assert (row["host"], row["guest_hosts"]) == ("here, there", "here,there")
    assert (row["pages_resolved"], row["fault_records"]) == (31, 31)
    assert row["requests"] == 4 * 5
    assert row["start_gate_s"] >= 0
    vcpus = rig.dataset.read("vcpus").to_pylist()
    assert [(one["vcpu"], one["vmm"], one["guest"], one["host"]) for one in vcpus] == [
        (0, 0, 0, "here"),
        (1, 1, 0, "here"),
        (2, 2, 1, "there"),
        (3, 3, 1, "there"),
    ]
    faults = rig.dataset.read("faults", ["vcpu", "guest", "host"]).to_pylist()
    assert {(one["vcpu"], one["guest"], one["host"]) for one in faults} == {
        (0, 0, "here"),
        (1, 0, "here"),
        (2, 1, "there"),
        (3, 1, "there"),
    }
    threads = rig.dataset.read("threads", ["role", "guest", "host"]).to_pylist()
    assert [(one["guest"], one["host"]) for one in threads if one["role"] == "reader"] == [(0, "here"), (1, "there")]
    assert [(one["guest"], one["host"]) for one in threads if one["role"] == "driver"] == [(None, None)]
    assert rig.server.released_at == second.released_at == 1000 + AHEAD_NS


def test_guests_start_only_when_all_are_at_their_barriers(rig: Rig) -> None:
    rig.add_guest("there", 5)
    rig.run("guests=2")
    armed = [rig.journal.index(f"{server}.armed") for server in ("server", "server1")]
    released = [rig.journal.index(f"{server}.release") for server in ("server", "server1")]
    assert max(armed) < min(released)


def test_a_single_guest_needs_no_gate(rig: Rig) -> None:
    assert rig.run()["start_gate_s"] is None
    assert "server.armed" not in rig.journal


def test_a_vmm_process_that_dies_on_its_way_to_the_barrier_is_not_waited_for(rig: Rig) -> None:
    server = rig.add_guest("there", 5)
    server.arms = False
    server.vcpus[1].failures["run"] = ActorDiedError()
    assert rig.run("guests=2")["status"] == "crashed"
    assert "server.release" not in rig.journal


def test_what_speaks_against_one_host_of_several_names_it(rig: Rig) -> None:
    rig.add_guest("there", 5)
    rig.vcpus[0].unprepared = 2
    assert rig.run("guests=2")["distrust"] == "pages were not in the state asked for on here (2)"


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


def test_what_is_the_runs_is_told_of_the_first_host_that_is_left(rig: Rig) -> None:
    rig.add_guest("there", 5)
    rig.vcpus[0].unprepared = 2
    rig.unended(lambda: setattr(rig.nodes[0], "gone", True), rig.end)
    row = rig.run("guests=2", "watchdog_s=10")
    assert "pages were not in the state asked for on there (2)" in row["distrust"]


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


def test_a_run_that_a_cpu_quota_throttled_is_marked_with_the_time(rig: Rig) -> None:
    quota = Quota(0.5, "/g/cpu.max")
    rig.nodes[0].host = dataclasses.replace(rig.host, limits=Limits(cpu_quota=quota))
    rig.unended(lambda: setattr(rig.nodes[0], "throttled_s", 1.25), rig.end)
    row = rig.run()
    assert (row["status"], row["cpu_quota"], row["throttled_s"], row["trusted"]) == ("ok", 0.5, 1.25, False)
    assert "throttled by a CPU quota (1.25 s, 0.5 CPUs)" in row["distrust"]


def test_a_vmm_process_that_was_killed_for_want_of_memory_says_so(rig: Rig) -> None:
    rig.unended(lambda: setattr(rig.nodes[0], "oom_kills", 1), rig.end)
    rig.vcpus[1].failures["finish"] = ActorDiedError()
    row = rig.run()
    assert row["status"] == "crashed"
    assert row["reason"].startswith("a process was killed for want of memory: the host has no memory left; vmm1 died: ")


def test_a_snapshot_that_became_shorter_is_the_reason_of_a_run_that_could_not_read_it(rig: Rig) -> None:
    rig.server.reason = "page server: Input/output error"
    rig.server.shorter = "the snapshot /s became shorter while it was read: from 8192 to 4096 bytes"
    row = rig.run("source=file", "fault_mix=absent")
    assert (row["status"], row["reason"]) == ("failed", rig.server.shorter)
