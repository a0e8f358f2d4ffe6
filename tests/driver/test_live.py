"""Progress of a run: figures from its status polls, shown as lines, as a bar, as events or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig
from rich.console import Console

from loadgen.host.probe import Host
from loadgen.plan.plan import PlannedRun, plan_run
from loadgen.run.live_status import NOTHING_SEEN, together
from loadgen.run.measured import Measured
from loadgen.run.progress_rate import ProgressRate, accesses
from loadgen.show import json_events as events
from loadgen.show.progress import Bar, Lines, Quiet
from loadgen.sweep import driver

STANDING = [
    {"vcpu": 3, "page": 17, "page_state": "in flight", "stage": "fetching (asked the page server)", "seconds": 2.5},
    {"vcpu": 1, "page": 5, "page_state": "", "stage": "thinking", "seconds": 0.5},
]


@pytest.fixture
def planned(configure: Callable[..., DictConfig], host: Host) -> PlannedRun:
    return plan_run(configure("sweep_id=s", "vcpus=2", "memory.region_mib=1", "access.passes=2"), host)


def look(seconds: float, pages: int, **more: Any) -> dict[str, Any]:
    return {**NOTHING_SEEN, "seconds": seconds, "pages_resolved": pages, "accesses": pages, "latency_p99_ns": 2e4, **more}


def ended(status: str = "ok", reason: str = "", **row: Any) -> Measured:
    return Measured({}, [], status=status, reason=reason, row={"status": status, **row})


def test_the_rate_is_that_since_the_look_before_not_since_the_start(planned: PlannedRun) -> None:
    rate = ProgressRate(planned.spec)
    rates = [rate.take(look(*at)).pages_per_s for at in ((1.0, 100), (1.5, 100), (2.0, 300))]
    assert rates == [100, 0, 400]
    assert rate.take(look(2.0, 300)).pages_per_s == 0


def test_how_far_a_run_is_counts_its_accesses(planned: PlannedRun, configure: Callable[..., DictConfig], host: Host) -> None:
    assert accesses(planned.spec) == 512  # 256 pages, twice
    assert ProgressRate(planned.spec).take(look(1.0, 128)).done == 0.25
    for override, expected in (("access.overlap=true", 512), ("access.accesses=10", 20)):
        assert accesses(plan_run(configure("sweep_id=s", "vcpus=2", "memory.region_mib=1", override), host).spec) == expected


def test_a_run_that_does_not_move_says_which_vcpu_page_state_and_stage(planned: PlannedRun) -> None:
    rate = ProgressRate(planned.spec)
    assert rate.take(look(1.0, 1)).stuck == ""
    assert rate.take(look(1.0, 1, standing=STANDING[1:])).stuck == ""
    said = rate.take(look(1.0, 1, standing=STANDING)).stuck
    assert said == "vCPU 3: no progress for 2.5 s: page 17 is in flight, stage: fetching (asked the page server)"
    more = rate.take(look(1.0, 1, standing=[*STANDING, {**STANDING[0], "vcpu": 4, "page_state": "", "seconds": 9.0}])).stuck
    assert more.startswith("vCPU 4: no progress for 9.0 s: page 17, stage: ") and more.endswith("; 1 more without progress")


def test_a_page_server_that_does_not_answer_is_named(planned: PlannedRun) -> None:
    assert (
        ProgressRate(planned.spec).take({**NOTHING_SEEN, "unanswered_s": 3.0}).stuck == "no answer from the page server for 3.0 s"
    )


def test_elsewhere_than_on_a_terminal_there_is_a_line_a_run_and_one_when_it_seems_stuck(planned: PlannedRun) -> None:
    out = io.StringIO()
    lines = Lines([1.0, 1.0], Console(file=out))
    lines.begin(planned)
    for standing in ([], STANDING, STANDING):
        lines.look(look(1.0, 1, standing=standing))
    lines.end(planned, ended(distrust="others were busy (1.20 of 2 CPUs)"))
    lines.begin(planned)
    lines.look(look(0.5, 1))
    lines.end(planned, ended("stuck", "vCPU 1 made no progress"))
    stuck, first, second = out.getvalue().splitlines()
    assert first.endswith(" s, about 1 s left)") and second.endswith(" s)") and "left" not in second
    assert stuck.startswith("seems stuck: vCPU 3: no progress for 2.5 s")
    assert first.startswith(
        "[1/2] uffd_wait minor shmem vcpus=2 repeat=0: ok, flagged as noisy: others were busy (1.20 of 2 CPUs) ("
    )
    assert second.startswith("[2/2] uffd_wait minor shmem vcpus=2 repeat=0: stuck: vCPU 1 made no progress (")


def test_on_a_terminal_the_bar_shows_rate_p99_and_faults_by_kind(planned: PlannedRun) -> None:
    out = io.StringIO()
    bar = Bar([1.0, 1.0, 1.0], Console(file=out, force_terminal=True, width=200))
    bar.begin(planned)
    bar.look(look(1.0, 128_000, faults_by_kind={"hit": 0, "minor": 100, "absent": 28}))
    bar.look(look(2.0, 128_000, standing=STANDING))
    bar.end(planned, ended("failed", "no page"))
    bar.close()
    shown = out.getvalue()
    for text in (
        "128.0 kpages/s  p99 20 us  minor 100  absent 28",
        "0/3",
        "1/3",
        "about 3 s left",
        "seems stuck: vCPU 3",
        "failed: no page",
    ):
        assert text in shown
    assert "hit" not in shown


def test_quiet_says_nothing(planned: PlannedRun, capfd: pytest.CaptureFixture[str]) -> None:
    quiet = Quiet()
    quiet.begin(planned)
    quiet.look(look(1.0, 1, standing=STANDING))
    quiet.end(planned, ended("failed", "no page"))
    quiet.close()
    assert capfd.readouterr() == ("", "")


def test_events_are_one_json_object_a_line(planned: PlannedRun, capsys: pytest.CaptureFixture[str]) -> None:
    watcher = events.Events("s")
    watcher.say("waiting for here")
    events.emit("sweep_started", "s", runs=1, dataset="d", command="loadgen 'x=\"\n'")
    watcher.begin(planned)
    watcher.look(look(1.0, 128, faults_by_kind={"minor": 128}))
    watcher.look(look(1.5, 128, standing=STANDING))
    watcher.end(planned, ended(pages_per_s=5.0, trusted=True))
    watcher.close()
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["event"] for one in found] == ["waiting", "sweep_started", "run_started", "look", "look", "run_ended"]
    assert {one["sweep_id"] for one in found} == {"s"}
    assert found.pop(0) == {"event": "waiting", "sweep_id": "s", "why": "waiting for here"}
    assert found[1] | {"title": ""} == {
        "event": "run_started",
        "sweep_id": "s",
        "run_id": planned.spec.run_id,
        "number": 1,
        "title": "",
    }
    assert (found[2]["pages_per_s"], found[2]["faults_by_kind"], found[2]["done"], found[2]["stuck"]) == (
        128,
        {"minor": 128},
        0.25,
        "",
    )
    assert found[2]["left_s"] == 3.0  # a quarter took 1 s
    assert found[3]["stuck"].startswith("vCPU 3: no progress")
    assert set(found[4]) == {"event", "sweep_id", "run_id", *events.ROW}
    assert (found[4]["pages_per_s"], found[4]["latency_p50_ns"]) == (5.0, None)


def test_the_ways_to_show_a_sweep_are_chosen_by_its_keys(planned: PlannedRun, configure: Callable[..., DictConfig]) -> None:
    assert isinstance(driver.watcher(configure("quiet=true"), [planned]), Quiet)
    assert isinstance(driver.watcher(configure("json=true", "quiet=true"), [planned]), events.Events)
    assert isinstance(driver.watcher(configure(), [planned]), Lines)


def test_looks_at_several_guests_are_one_look_whose_vcpus_are_numbered_through() -> None:
    first = look(2.0, 10, faults_by_kind={"minor": 10}, standing=[STANDING[0]])
    second = look(1.0, 5, faults_by_kind={"minor": 4, "hit": 1}, standing=[STANDING[1]], latency_p99_ns=None, unanswered_s=1.0)
    both = together([first, second], 4)
    assert (both["accesses"], both["pages_resolved"], both["seconds"]) == (15, 15, 2.0)
    assert both["faults_by_kind"] == {"minor": 14, "hit": 1}
    assert (both["latency_p99_ns"], both["unanswered_s"]) == (2e4, 1.0)
    assert [one["vcpu"] for one in both["standing"]] == [3, 5]
