"""Rows of `runs` against their configuration, and `trusted` against its own rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from results.verify.described import contradictions
from results.verify.trusted import misjudged

RUN: dict[str, Any] = {
    **{"schema_version": 3, "trusted": True, "distrust": None, "guests": 1, "vcpu_cpus": "0", "reader_cpus": "1"},
    **{"watched_s": 2.0, "machine_cpus": 2, "rig_cpu_share": 0.1, "other_cpu_share": 0.1, "steal_share": 0.0},
}
PREEMPTED = "pinned threads were preempted (200/s each)"


def threads(*roles: str, switches: int | None = 401) -> list[dict[str, Any]]:
    return [{"role": role, "involuntary_switches": switches} for role in roles]


def flagged(*reasons: str) -> dict[str, Any]:
    return RUN | {"trusted": False, "distrust": "; ".join(reasons)}


def test_a_trusted_run_whose_pinned_threads_were_preempted_is_named() -> None:
    [said] = misjudged(RUN, threads("vcpu", "reader", "vmm", "driver"))
    assert said == f"trusted=True, and its rules flag it: {PREEMPTED}"
    assert list(misjudged(RUN, threads("vcpu", "reader", switches=200))) == []


@pytest.mark.parametrize(
    "exempt",
    [
        {"watched_s": 0.04, "trusted": None},
        {"watched_s": None},
        {"guests": 2},
        {"reader_cpus": "0"},  # they have to take turns
        {"reader_cpus": "0,1"},
        {"vcpu_cpus": "", "reader_cpus": ""},  # not pinned
        {"schema_version": 2},
    ],
)
def test_threads_that_have_to_share_are_not_preempted(exempt: dict[str, Any]) -> None:
    assert list(misjudged(RUN | exempt, threads("vcpu", "reader", switches=10_000))) == []


def test_a_thread_that_may_have_taken_a_cpu_says_nothing_of_the_host() -> None:
    assert list(misjudged(RUN, threads("vcpu", "reader", "balloon", switches=10_000))) == []
    assert list(misjudged(RUN, [*threads("vcpu", switches=10_000), *threads("reader", switches=None)])) == []


@pytest.mark.parametrize(
    "reason",
    [
        "pages were not in the state asked for (3)",
        "status poll late (0.80 s)",
        "other processes were busy (1.90 of 2 CPUs)",
        "the page server was killed and replaced (1)",
        "throttled by a CPU quota (0.20 s, 1 CPUs)",
        "an emulated exit cost another time after the run than before it (100 ns, then 300 ns)",
        PREEMPTED,
        "a bad feeling",
    ],
)
def test_a_run_that_is_flagged_for_what_no_rule_gives_is_named(reason: str) -> None:
    row = flagged(reason) | {"throttled_s": 0.0}
    assert list(misjudged(row, threads("vcpu", "reader", switches=10))) == [f"flagged: {reason}, which no rule gives"]


def test_a_run_that_is_flagged_for_what_its_rules_give_is_not_named() -> None:
    further = {"unprepared": 3, "driver_lag_s": 0.8, "recoveries": 1, "throttled_s": 0.2, "cpu_quota": 1.0}
    reasons = ("pages were not in the state asked for (3)", "status poll late (0.80 s)", PREEMPTED)
    reasons += ("the page server was killed and replaced (1)", "throttled by a CPU quota (0.20 s, 1 CPUs)")
    assert list(misjudged(flagged(*reasons) | further, threads("vcpu", "reader"))) == []
    assert list(misjudged(flagged(reasons[-1]), threads("vcpu", "reader", switches=0))) == []  # throttled_s is null: not known
    lacks = list(misjudged(flagged(*reasons[1:]) | further, threads("vcpu", "reader")))
    assert lacks == [f"trusted=False, and its rules flag it: {reasons[0]}"]


@pytest.mark.parametrize(("seed", "said"), [(13, []), (10, ["seed=10, and its configuration has 13"])])
def test_each_repeat_and_each_guest_has_a_seed_of_its_own(seed: int, said: list[str]) -> None:
    config = json.dumps({"seed": 7, "repeat": 3, "guests": 2})
    row = {"status": "ok", "duration_s": 1.0, "pages_resolved": 8, "seed": seed, "config_json": config}
    assert list(contradictions(row)) == said
