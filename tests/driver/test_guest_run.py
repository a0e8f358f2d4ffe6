"""One run on fake actors: the order of the seam, and that however it ends the run leaves a row."""

from __future__ import annotations

import dataclasses

import pytest
from ray.exceptions import RayTaskError

from loadgen.host.cgroups import Quota
from loadgen.host.changes import HostChangeError
from loadgen.host.limits import Limits
from loadgen.run.start_barrier import AHEAD_NS
from tests.driver.rig import Rig, interrupt, nothing


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
    assert (row["trusted"], row["distrust"]) == (None, None), "shorter than what /proc/stat can tell"


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
    rig.server.failures["serve"] = RayTaskError("serve", "traceback", ConnectionError("no VMM process connected"))
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


def test_a_guest_stopped_for_another_reason_makes_the_run_failed(rig: Rig) -> None:
    rig.server.reason = "page server: bad address"
    row = rig.run()
    assert (row["status"], row["reason"]) == ("failed", "page server: bad address")


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
    assert [rig.journal.count(f"{server}.armed") for server in ("server", "server1")] == [1, 1]


def test_a_single_guest_needs_no_gate(rig: Rig) -> None:
    assert rig.run()["start_gate_s"] is None
    assert "server.armed" not in rig.journal


def test_what_speaks_against_a_run_as_a_whole_names_none_of_its_hosts(rig: Rig) -> None:
    rig.add_guest("there", 5)
    rig.vcpus[0].unprepared = 2
    assert rig.run("guests=2")["distrust"] == "pages were not in the state asked for (2)"


def test_what_speaks_against_a_run_as_a_whole_is_said_when_its_first_host_is_gone_too(rig: Rig) -> None:
    rig.add_guest("there", 5)
    rig.vcpus[0].unprepared = 2
    rig.unended(lambda: setattr(rig.nodes[0], "gone", True), rig.end)
    row = rig.run("guests=2", "watchdog_s=10")
    assert "pages were not in the state asked for (2)" in row["distrust"]


def test_a_run_that_a_cpu_quota_throttled_is_marked_with_the_time(rig: Rig) -> None:
    quota = Quota(0.5, "/g/cpu.max")
    rig.nodes[0].host = dataclasses.replace(rig.host, limits=Limits(cpu_quota=quota))
    rig.unended(lambda: setattr(rig.nodes[0], "throttled_s", 1.25), rig.end)
    row = rig.run()
    assert (row["status"], row["cpu_quota"], row["throttled_s"], row["trusted"]) == ("ok", 0.5, 1.25, False)
    assert "throttled by a CPU quota (1.25 s, 0.5 CPUs)" in row["distrust"]
