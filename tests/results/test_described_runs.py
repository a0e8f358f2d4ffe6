"""Rows of `runs` against their configuration, and `trusted` against the switches of pinned threads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from results.verify.described import contradictions, preempted

RUN: dict[str, Any] = {"trusted": True, "watched_s": 2.0, "guests": 1, "vcpu_cpus": "0", "reader_cpus": "1"}


def threads(*roles: str, switches: int = 401) -> list[dict[str, Any]]:
    return [{"role": role, "involuntary_switches": switches} for role in roles]


def test_a_trusted_run_whose_pinned_threads_were_preempted_is_named() -> None:
    [said] = preempted(RUN, threads("vcpu", "reader", "vmm", "driver"))
    assert said == "trusted=True, and pinned threads were preempted 200 times a second each, above 100"
    assert list(preempted(RUN, threads("vcpu", "reader", switches=200))) == []


@pytest.mark.parametrize(
    "exempt",
    [
        {"trusted": False},
        {"trusted": None},
        {"watched_s": 0.04},
        {"watched_s": None},
        {"guests": 2},
        {"reader_cpus": "0"},  # they have to take turns
        {"reader_cpus": "0,1"},
        {"vcpu_cpus": "", "reader_cpus": ""},  # not pinned
    ],
)
def test_threads_that_have_to_share_are_not_preempted(exempt: dict[str, Any]) -> None:
    assert list(preempted(RUN | exempt, threads("vcpu", "reader", switches=10_000))) == []


def test_a_thread_that_may_have_taken_a_cpu_says_nothing_of_the_host() -> None:
    assert list(preempted(RUN, threads("vcpu", "reader", "balloon", switches=10_000))) == []
    assert list(preempted(RUN, [*threads("vcpu", switches=10_000), {"role": "reader", "involuntary_switches": None}])) == []


@pytest.mark.parametrize(("seed", "said"), [(13, []), (10, ["seed=10, and its configuration has 13"])])
def test_each_repeat_and_each_guest_has_a_seed_of_its_own(seed: int, said: list[str]) -> None:
    config = json.dumps({"seed": 7, "repeat": 3, "guests": 2})
    row = {"status": "ok", "duration_s": 1.0, "pages_resolved": 8, "seed": seed, "config_json": config}
    assert list(contradictions(row)) == said
