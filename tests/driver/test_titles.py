"""Progress lines and plans name what is swept; the time left follows the plan and the runs so far."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from loadgen.config.command_line import from_hydra
from loadgen.host.probe import Host
from loadgen.plan.plan import PlannedRun, plan_run
from loadgen.show.dry_run import print_plan
from loadgen.show.time_left import TimeLeft, expected_s
from loadgen.show.title import title
from loadgen.sweep.set_apart import set_apart

TOOK_S = (
    ("uffd_wait", "minor", 1, 6.3),
    ("uffd_wait", "absent", 1, 2.4),
    ("uffd_wait", "minor", 2, 3.3),
    ("uffd_wait", "absent", 2, 0.4),
    ("uffd_wait", "minor", 4, 4.8),
    ("uffd_wait", "absent", 4, 0.2),
    ("no_uffd_wait", "minor", 1, 0.3),
    ("no_uffd_wait", "absent", 1, 1.8),
    ("no_uffd_wait", "minor", 2, 0.2),
    ("no_uffd_wait", "absent", 2, 0.3),
    ("no_uffd_wait", "minor", 4, 0.2),
    ("no_uffd_wait", "absent", 4, 0.2),
    ("no_slow_gup", "minor", 1, 0.2),
    ("no_slow_gup", "absent", 1, 1.9),
    ("no_slow_gup", "minor", 2, 0.2),
    ("no_slow_gup", "absent", 2, 0.2),
    ("no_slow_gup", "minor", 4, 0.2),
    ("no_slow_gup", "absent", 4, 0.2),
)
"""Seconds that the runs of `loadgen -m strategy=... vcpus=1,2,4 fault_mix=minor,absent memory.region_mib=32` took on a busy
machine with 2 CPUs."""

Plan = Callable[..., PlannedRun]


@pytest.fixture
def plan(configure: Callable[..., DictConfig], host: Host) -> Plan:
    """The run of a sweep's job, planned as the sweeper plans it: `apart` sets it apart from the other jobs."""

    def planned(*overrides: str, apart: str | None = None) -> PlannedRun:
        cfg = configure("sweep_id=s", *overrides)
        cfg.job_overrides = from_hydra(overrides) if apart is None else apart
        return plan_run(cfg, host)

    return planned


@pytest.mark.parametrize(
    "swept",
    [
        ("engine=thread", "engine=kvm"),
        ("access.rate_per_s=0", "access.rate_per_s=1000"),
        ("disturb=none", "disturb=balloon"),
        ("disturb=balloon", "disturb=[balloon,devices]"),
        ("placement=pack", "placement=spread"),
        ("memory.region_mib=4", "memory.region_mib=8"),
        ("strategy=no_uffd_wait", "strategy=no_uffd_wait_around4"),
        ("page_server.readers_per_uffd=1", "page_server.readers_per_uffd=2"),
        ("strategy='null'", "strategy=uffd_wait"),
    ],
)
def test_runs_that_differ_have_titles_that_differ_by_it(plan: Plan, swept: tuple[str, str]) -> None:
    jobs = [["vcpus=2", one, "repeats=3"] for one in swept]
    titles = [title(plan(*job, apart=apart)) for job, apart in zip(jobs, set_apart(jobs), strict=True)]
    assert titles[0] != titles[1]
    assert all("repeats" not in one and one.count("vcpus=2") == 1 for one in titles)
    if not swept[0].startswith("strategy"):
        assert [one.split()[-2] for one in titles] == list(swept)


def test_what_all_jobs_have_in_common_sets_none_apart_and_a_key_that_some_lack_does() -> None:
    jobs = [["vcpus=1", "strategy=eager", "+strategy.populate_pages=64"], ["vcpus=1", "strategy='null'"]]
    assert set_apart(jobs) == ["strategy=eager +strategy.populate_pages=64", "strategy=null"]
    assert set_apart([["vcpus=1", "vcpus=2"], ["vcpus=3", "vcpus=2"]]) == ["", ""]  # the last one counts


def test_a_single_run_is_named_by_all_that_was_given_but_what_is_not_measured(plan: Plan) -> None:
    planned = plan("engine=kvm", "vcpus=2", "dataset=there", "repeats=2", "cluster.exclusive=false")
    assert title(planned) == "uffd_wait minor shmem vcpus=2 engine=kvm repeat=0"


def test_a_plan_has_one_line_above_it_for_what_is_alike(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [plan(f"placement={one}", apart=f"placement={one}") for one in ("pack", "spread")]
    print_plan(runs)
    printed = capsys.readouterr().out
    assert printed.startswith("all runs: uffd_wait minor shmem vcpus=1 repeat=0, seed 1, vCPU CPUs 0, MiB ")
    assert "placement=pack" in printed and "placement=spread" in printed
    assert max(map(len, printed.splitlines())) <= 100
    print_plan(runs[:1])
    assert "1 run, about" in capsys.readouterr().out
    print_plan([])
    assert capsys.readouterr().out == "0 runs, about 0 s and 0 MiB; nothing was started\n"


def test_the_first_estimates_of_the_time_left_are_within_a_factor_of_two(plan: Plan) -> None:
    took_s = [took for *_, took in TOOK_S]
    runs = [
        plan(f"strategy={strategy}", f"fault_mix={mix}", f"vcpus={vcpus}", "memory.region_mib=32")
        for strategy, mix, vcpus, _ in TOOK_S
    ]
    time = TimeLeft(expected_s(runs))
    for number, took in enumerate(took_s[:3]):
        time.ended(took)
        left_s = sum(took_s[number + 1 :])
        assert left_s / 2 <= time.left_s() <= left_s * 2, number
    assert time.left_s(done=0.5) < time.left_s()


def test_a_host_that_is_slower_than_planned_and_runs_that_differ_are_taken_into_account() -> None:
    time = TimeLeft([10.0, 10.0, 30.0])
    assert time.left_s() == 50.0
    time.ended(22.0)
    assert time.left_s() == 80.0  # 24 s for the 12 s that were expected
    time.ended(22.0)
    time.ended(66.0)
    assert time.left_s() == 0.0


def test_a_run_with_more_vmm_processes_than_before_takes_the_start_of_their_actors(plan: Plan) -> None:
    one, two = plan("vcpus=1"), plan("vcpus=2")
    assert expected_s([one, two, one, two])[2] == one.estimated_s
    assert expected_s([one, two])[1] == two.estimated_s + 1.5


def test_a_plan_says_which_runs_keep_one_round_and_why(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    once, rounds = plan("strategy=eager"), plan("strategy=uffd_wait")
    print_plan([once])
    assert "\none round: strategy=eager restores the guest once\n" in capsys.readouterr().out
    print_plan([once, rounds, once])
    assert "\none round in 2 of 3 runs: strategy=eager restores the guest once\n" in capsys.readouterr().out
    print_plan([rounds])
    assert "one round" not in capsys.readouterr().out
