"""The presets of hazards that come from disturbances, on the real kernel and real Ray: shown to happen, and survived."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest

from results import questions
from tests import needs
from tests.e2e.in_session import Bench
from tests.e2e.movable_memory import all_online, movable_memory

MOVABLE_BLOCKS = 12
"""1.5 GiB: what else starts on the host meanwhile fits in, too."""
MOST_RUNS = 6
SHORT = ("access.accesses=3000",)
KVM = partial(pytest.param, marks=needs.KVM)


def test_an_untracked_balloon_puts_vcpus_to_sleep_or_is_taken_for_a_memory_error(bench: Bench) -> None:
    untracked = ("experiment=balloon_untracked", *SHORT, "disturb.balloon.track_removes=false")
    slept = bench.run(*untracked, "strategy=no_slow_gup")
    assert slept["status"] == "ok" and slept["populate_waits"] > 0
    mistaken = bench.run(*untracked, "strategy=no_uffd_wait")
    assert mistaken["status"] == "ok" and mistaken["memory_errors"] > 0 and mistaken["poisoned_pages"] == 0
    answer = questions.answer("balloon_untracked", bench.dataset)
    assert "populate waits" in answer.heads and "asleep max us" in answer.heads and len(answer.rows) == 2


def test_a_balloon_the_vmm_hears_of_does_neither(bench: Bench) -> None:
    for strategy in ("no_slow_gup", "no_uffd_wait"):
        row = bench.run("experiment=balloon_untracked", *SHORT, "disturb.balloon.track_removes=true", f"strategy={strategy}")
        assert row["status"] == "ok", row["reason"]
        assert row["removes"] == row["pages_dropped"] == row["pages_discarded"] > 0
        # One may go between the look at its record and the populate; a UFFD_FEATURE_SIGBUS mapping has no such sleep.
        assert row["populate_waits"] * 100 <= (row["pages_dropped"] + 200 if strategy == "no_slow_gup" else 0)
        assert row["memory_errors"] == row["pages_gone"] == 0


def test_a_stale_stage_2_entry_is_slept_on_and_counted(bench: Bench) -> None:
    row = bench.run("experiment=stale_stage2", *SHORT, "disturb.balloon.stage2=stale")
    assert row["status"] == "ok" and row["stray_waits"] > 0


def test_a_pending_remove_event_is_met_with_eagain_and_tried_again(bench: Bench) -> None:
    row = bench.run("experiment=remove_pending", *SHORT, "strategy=no_slow_gup", "strategy.fault_around_pages=8")
    assert row["status"] == "ok", row["reason"]
    assert row["eagain_changing"] > 0 and row["eagain"] >= row["eagain_changing"]


def test_a_system_call_on_a_mapping_that_refuses_to_sleep_gets_efault(bench: Bench) -> None:
    same = bench.run("experiment=device_efault", "access.accesses=300", "strategy=no_uffd_wait")
    assert same["status"] == "ok" and same["device_refused"] > 0 and same["device_waits"] == 0
    second = bench.run(
        "experiment=device_efault", "access.accesses=300", "strategy=no_uffd_wait", "disturb.devices.device_mapping=second"
    )
    assert second["status"] == "ok" and second["device_refused"] == 0 and second["device_waits"] > 0
    assert same["device_sleeps"] * 50 <= same["device_accesses"], "for the mmap_lock, if at all"
    assert second["device_sleeps"] >= 0.9 * second["device_resolved"], "one may be woken before it is asleep"
    assert 0 < second["device_sleep_p50_ns"] <= second["device_sleep_p99_ns"] <= second["device_sleep_max_ns"] * 1.04
    answer = questions.answer("device_efault", bench.dataset)
    assert {"device sleeps", "device slept p50 us", "device slept max us"} <= set(answer.heads)


def test_a_punched_hole_is_found_without_an_event_and_filled_again(bench: Bench) -> None:
    row = bench.run("experiment=punched_hole", *SHORT, "strategy=no_slow_gup", "disturb.balloon.method=punch")
    assert row["status"] == "ok" and row["track_removes"] and row["removes"] == 0
    assert row["populate_waits"] > 0 and row["contents_lost"] > 0


@needs.ROOT
@pytest.mark.parametrize(("engine", "strategy"), [("thread", "no_slow_gup"), KVM("kvm", "no_uffd_wait")])
def test_a_migrator_has_the_kernel_move_guest_pages_to_other_frames(
    engine: str, strategy: str, bench: Bench, host_alone: None
) -> None:
    guest = ("fault_mix=hit", "memory.region_mib=16", "access.passes=12", "access.rate_per_s=8000")
    did: Counter[str] = Counter()
    with movable_memory(MOVABLE_BLOCKS) as there:
        for _ in range(MOST_RUNS):  # a busy machine may keep a migrator from coming to its end in one
            row = bench.run("disturb=migrator", f"engine={engine}", f"strategy={strategy}", *guest)
            assert all_online()
            assert row["status"] == "ok", row["reason"]
            assert row["wrong_words"] == 0
            judge_rate(row)
            did.update({key: row[key] for key in ("compactions", "blocks_offlined", "pages_migrated")})
            if did["compactions"] + did["blocks_offlined"] and (did["pages_migrated"] or not there):
                break
    assert did["compactions"] + did["blocks_offlined"] > 0, did
    assert did["pages_migrated"] > 0 or not there, did


def judge_rate(row: dict[str, Any]) -> None:
    """One that fell behind is named in its row; compaction may have packed memory until there was nothing left to move."""
    did = {key: row[key] for key in ("not_achieved", "compactions", "blocks_offlined", "pages_migrated", "duration_s")}
    if row["not_achieved"] is None:
        assert row["pages_migrated"] >= 90 * row["duration_s"], did
    else:
        assert row["not_achieved"].startswith("migrator: ") and row["pages_migrated"] < 100 * row["duration_s"], did


@pytest.mark.parametrize(
    ("engine", "strategies"),
    [("thread", ("uffd_wait", "no_slow_gup", "no_uffd_wait")), KVM("kvm", ("uffd_wait", "no_uffd_wait"))],
)
def test_a_small_soak_of_everything_at_once_ends_with_every_page_right(
    engine: str, strategies: tuple[str, ...], bench: Bench
) -> None:
    for strategy in strategies:
        row = bench.run(
            f"engine={engine}",
            f"strategy={strategy}",
            "prefetch=order",
            "prefetch.mib_per_s=8",
            "fault_mix=mixed",
            "disturb=[balloon,devices,mmap_writers]",
            "disturb.balloon.method=remove",
            "vcpus=8",
            "vcpus_per_vmm=8",
            "access.overlap=true",
            "page_server.readers_per_uffd=3",
            "strategy.fault_around_pages=4",
            "memory.region_mib=8",
        )
        assert row["status"] == "ok", row["reason"]
        assert row["wrong_words"] == 0 and row["ended_in_flight"] == 0
        assert row["disturb"] == "balloon+mmap_writers+devices" and row["device_accesses"] > 0 and row["maps"] > 0
        assert row["prefetched_pages"] > 0
    roles = {thread["role"] for thread in bench.dataset.read("threads").to_pylist()}
    assert {"balloon", "mmap_writer", "device", "vcpu", "reader"} <= roles
