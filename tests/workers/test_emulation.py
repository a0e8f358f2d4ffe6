"""Every emulated operation is counted where it is made: exact counts on real runs, against the page states they follow from."""

from __future__ import annotations

import pytest

from tests.conformance.run import PAGES, run_cell

KINDS = ("probes_missed", "probes_found", "signals", "populates_refused", "populates_done")


def counted(name: str, memory: str, state: str, fault_around_pages: int = 1) -> dict[str, int]:
    """Emulated operations of one vCPU that touches every page once, in order: those that happened."""
    ran = run_cell(name, memory, state, fault_around_pages=fault_around_pages)
    assert (ran.stop_reason, ran.broken, ran.wrong_words) == ("", [], 0)
    counts = {kind: ran.vcpus[f"emulated_{kind}"] for kind in KINDS}
    return {kind: count for kind, count in counts.items() if count}


@pytest.mark.parametrize("memory", ["shmem", "anon"])
@pytest.mark.parametrize("around", [1, 16])
def test_a_probe_is_paid_for_every_page_and_an_exit_for_every_block(memory: str, around: int) -> None:
    pages, blocks = PAGES[memory], PAGES[memory] // around
    state = "minor" if memory == "shmem" else "absent"
    found = {"probes_found": pages - blocks} if around > 1 else {}
    assert counted("no_slow_gup", memory, state, around) == {"probes_missed": blocks} | found


@pytest.mark.parametrize("around", [1, 16])
def test_a_signal_is_paid_for_every_block_and_its_neighbours_are_touched_for_nothing(around: int) -> None:
    assert counted("no_uffd_wait", "shmem", "minor", around) == {"signals": PAGES["shmem"] // around}


@pytest.mark.parametrize("around", [1, 16])
def test_an_exit_by_populate_is_refused_for_every_block_and_done_for_its_neighbours(around: int) -> None:
    pages, blocks = PAGES["shmem"], PAGES["shmem"] // around
    found = {"populates_done": pages - blocks} if around > 1 else {}
    expected = {"populates_refused": blocks} | found
    assert counted("no_uffd_wait, exit_via=populate", "shmem", "minor", around) == expected


def test_the_populate_strategy_probes_again_after_its_own_populate() -> None:
    pages = PAGES["shmem"]
    assert counted("populate", "shmem", "minor") == {"probes_missed": pages, "probes_found": pages}


def test_pages_that_are_mapped_before_the_start_cost_a_probe_each_and_no_exit() -> None:
    assert counted("no_slow_gup", "shmem", "hit") == {"probes_found": PAGES["shmem"]}
    assert counted("no_uffd_wait", "shmem", "hit") == {}


@pytest.mark.parametrize("name", ["uffd_wait", "null"])
def test_what_sleeps_or_runs_in_the_kernel_emulates_nothing(name: str) -> None:
    assert counted(name, "shmem", "minor") == {}
