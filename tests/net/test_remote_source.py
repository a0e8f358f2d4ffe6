"""The remote source over a network that is not loopback: two namespaces with real delay, jitter, loss and rate between them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.net.delayed_link import Side, delayed_link, require, source_at

PAGES = 1024
MEMORY = ("--region-mib", "4", "--seed", "1")


def start(side: Side, address: str, **asked: object) -> subprocess.Popen[str]:
    """The guest, once its measured phase begins."""
    process = side.start(sys.executable, "-m", "tests.net.guest", json.dumps({"address": address, **asked}))
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said == "running\n", said + process.stdout.read()
    return process


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=60)
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def assert_right(found: dict[str, Any]) -> None:
    assert found["stop_reason"] == ""
    assert found["wrong_words"] == 0
    assert found["pages_resolved"] == PAGES
    assert found["source"]["on_demand"] + found["source"]["pushed"] == PAGES


@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait"])
def test_over_a_delayed_link_every_page_is_right_and_the_round_trip_is_in_the_results(strategy: str) -> None:
    require()
    with delayed_link(5.0, jitter_ms=2.0) as (here, there), source_at(there, *MEMORY) as (_, address):
        found = ended(start(here, address, strategy=strategy, vcpus=16))
    assert_right(found)
    assert found["source"]["pushed"] == 0
    assert found["source"]["rtt_p50_us"] >= 10_000


def test_while_the_rest_is_pushed_faults_go_first_and_every_page_comes_one_way_or_the_other() -> None:
    require()
    with delayed_link(3.0, jitter_ms=1.0) as (here, there), source_at(there, *MEMORY) as (_, address):
        there.limit("100mbit")
        found = ended(start(here, address, push=True, batch_pages=4, vcpus=8))
    assert_right(found)
    assert found["source"]["pushed"] > 0 and found["source"]["on_demand"] > 0


@pytest.mark.parametrize("strategy", ["uffd_wait", "no_slow_gup"])
def test_over_a_link_that_loses_packets_nothing_is_lost(strategy: str) -> None:
    require("nft")
    with delayed_link(1.0) as (here, there), source_at(there, *MEMORY) as (_, address):
        here.lose(2)
        there.lose(2)
        found = ended(start(here, address, strategy=strategy, push=True, batch_pages=2, connections=2, vcpus=8))
        assert here.dropped() > 0 and there.dropped() > 0
    assert_right(found)


def test_a_narrow_link_is_used_and_never_exceeded() -> None:
    require()
    with delayed_link(0.5) as (here, there), source_at(there, *MEMORY) as (_, address):
        there.limit("50mbit")
        found = ended(start(here, address, vcpus=8))
    assert_right(found)
    burst = 64 * 1024
    assert found["took_s"] >= (PAGES * 4096 - burst) * 8 / 50e6


def assert_silent(found: dict[str, Any], address: str, patience_s: float) -> None:
    """The run was ended for a source that was silent, not before its time."""
    named = re.match(rf"the source at {re.escape(address)} sent nothing that was asked for in ([\d.]+) s, ", found["stop_reason"])
    assert named and float(named[1]) >= patience_s, found["stop_reason"]


@pytest.mark.parametrize("push", [False, True])
def test_a_source_that_vanishes_without_a_word_fails_the_run_by_its_name(push: bool) -> None:
    require("nft")
    with delayed_link(1.0) as (here, there), source_at(there, *MEMORY) as (_, address):
        patience: dict[str, Any] = {"timeout_s": 0.5, "retries": 2, "push_mib_per_s": 1.0, "push": push}
        guest = start(here, address, vcpus=4, rate_per_s=100, watchdog_s=10, **patience)
        there.vanish()
        found = ended(guest)
    assert_silent(found, address, patience_s=0.5 * 3)
    assert "2 retries" in found["stop_reason"]
    assert found["wrong_words"] == 0


def test_a_source_that_is_killed_fails_the_run_by_its_name() -> None:
    require()
    with delayed_link(1.0) as (here, there), source_at(there, *MEMORY) as (process, address):
        guest = start(here, address, vcpus=4, rate_per_s=100, timeout_s=0.5, retries=1)
        process.kill()
        found = ended(guest)
    assert_silent(found, address, patience_s=0.5 * 2)
    assert "Connection refused" in found["stop_reason"]
