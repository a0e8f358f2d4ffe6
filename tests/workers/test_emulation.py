"""Emulated operations: exact counts on real runs, against the page states they follow from, and what they are calibrated to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median

import pytest

from tests import needs
from tests.conformance.run import PAGES, run_cell
from tests.workers.tracepoints import Counted, tracefs
from workers import _native
from workers.vcpu import Vcpu

KINDS = ("probes_missed", "probes_found", "signals", "populates_refused", "populates_done")


def counted(name: str, memory: str, state: str, fault_around_pages: int = 1) -> dict[str, int]:
    """Emulated operations of one vCPU that touches every page once, in order: those that happened."""
    ran = run_cell(name, memory, state, fault_around_pages=fault_around_pages)
    assert (ran.stop_reason, ran.unprepared, ran.broken, ran.wrong_words) == ("", 0, [], 0)
    counts = {kind: ran.vcpus[f"emulated_{kind}"] for kind in KINDS}
    return {kind: count for kind, count in counts.items() if count}


@pytest.mark.parametrize("memory", ["shmem", "anon"])
@pytest.mark.parametrize("around", [1, 16])
def test_a_probe_is_paid_for_every_block_and_its_neighbours_are_touched_for_nothing(memory: str, around: int) -> None:
    state = "minor" if memory == "shmem" else "absent"
    assert counted("no_slow_gup", memory, state, around) == {"probes_missed": PAGES[memory] // around}


@pytest.mark.parametrize("around", [1, 16])
def test_so_is_a_signal(around: int) -> None:
    assert counted("no_uffd_wait", "shmem", "minor", around) == {"signals": PAGES["shmem"] // around}


@pytest.mark.parametrize("around", [1, 16])
def test_so_is_a_refused_populate(around: int) -> None:
    expected = {"populates_refused": PAGES["shmem"] // around}
    assert counted("no_uffd_wait, exit_via=populate", "shmem", "minor", around) == expected


def test_what_a_populate_has_mapped_is_not_probed_again() -> None:
    assert counted("populate", "shmem", "minor") == {"probes_missed": PAGES["shmem"]}


def test_neighbours_that_a_reader_installs_are_probed_and_found() -> None:
    blocks = PAGES["shmem"] // 16
    assert counted("populate", "shmem", "minor", 16) == {"probes_missed": blocks, "probes_found": PAGES["shmem"] - blocks}


def test_a_swapped_page_costs_no_slow_gup_one_probe_and_no_uffd_wait_nothing(zram: None) -> None:
    assert counted("no_slow_gup", "anon", "swapped") == {"probes_missed": PAGES["anon"]}
    assert counted("no_uffd_wait", "anon", "swapped") == {}
    assert counted("no_uffd_wait, exit_via=populate", "anon", "swapped") == {"populates_done": PAGES["anon"]}


def test_pages_that_are_mapped_before_the_start_cost_a_probe_each_and_no_exit() -> None:
    assert counted("no_slow_gup", "shmem", "hit") == {"probes_found": PAGES["shmem"]}
    assert counted("no_uffd_wait", "shmem", "hit") == {}


@pytest.mark.parametrize("name", ["uffd_wait", "null"])
def test_what_sleeps_or_runs_in_the_kernel_emulates_nothing(name: str) -> None:
    assert counted(name, "shmem", "minor") == {}


MADVISE = "syscalls/sys_enter_madvise"


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kernel's tracepoints."""
    needs.root()
    try:
        with tracefs(tmp_path_factory.mktemp("kernel") / "tracing") as folder:
            yield folder
    except subprocess.CalledProcessError:
        pytest.skip("tracefs cannot be mounted: use a kernel with CONFIG_TRACING, and a container that may mount")


@pytest.mark.parametrize("around", [1, 16])
@pytest.mark.parametrize(
    ("name", "event", "kinds"),
    [
        ("no_slow_gup", "syscalls/sys_enter_pread64", ("probes_missed", "probes_found")),
        ("no_uffd_wait", "signal/signal_deliver", ("signals",)),
        ("no_uffd_wait, exit_via=populate", MADVISE, ("populates_refused", "populates_done")),
        ("populate", "syscalls/sys_enter_pread64", ("probes_missed", "probes_found")),
    ],
)
def test_the_kernel_counts_as_many_of_them(
    events: Path, monkeypatch: pytest.MonkeyPatch, name: str, event: str, kinds: tuple[str, ...], around: int
) -> None:
    seen: list[int] = []

    class Watched(Vcpu):
        def run(self) -> None:
            counted = Counted(events, event)
            super().run()
            seen.append(counted.close())

    monkeypatch.setattr("tests.in_process.Vcpu", Watched)
    ran = run_cell(name, "shmem", "minor", fault_around_pages=around)
    made = sum(ran.vcpus[f"emulated_{kind}"] for kind in kinds)
    assert made > 0
    assert seen == [made + (event == MADVISE)]  # the C library gives a thread's stack back when it ends


def test_the_ledger_names_a_counter_and_what_is_known_of_the_real_cost_for_every_operation() -> None:
    assert [entry["name"] for entry in _native.emulated_operations()] == [
        *("probe_missed", "probe_found", "signal", "populate_refused", "populate_done")
    ]
    assert [entry["counter"] for entry in _native.emulated_operations()] == [f"emulated_{kind}" for kind in KINDS]
    assert all(entry["stands_for"] and entry["real_cost"] for entry in _native.emulated_operations())


MADE = {"signal": {"exit", "slow_gup"}, "probe": {"exit", "entry"}, "populate": {"exit", "slow_gup", "entry"}, "none": set()}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("memory", ["shmem", "anon"])
def test_a_calibration_costs_what_its_exit_kind_makes_and_nothing_else(kind: str, memory: str) -> None:
    found = _native.calibrate(kind, memory, 1 << 14)
    assert {name for name in ("exit", "slow_gup", "entry") if found[f"{name}_ns"] > 0} == MADE[kind]
    assert (found["arrival_ns"] > 0) == (kind != "none")


def test_a_calibration_beside_a_cpu_hog_stays_within_a_tenth() -> None:
    """In turns with one without it: what else is at work on the machine is then beside both."""

    def exit_ns() -> float:
        return _native.calibrate("signal", "shmem", 1 << 14)["exit_ns"]

    ratios: list[float] = []
    with hogs(len(os.sched_getaffinity(0))) as hold:
        for _ in range(25):
            beside = exit_ns()
            with hold():
                ratios.append(beside / exit_ns())
    assert median(ratios) == pytest.approx(1.0, rel=0.1), ratios


@contextmanager
def hogs(count: int) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """So many processes that do nothing but use a CPU; they are held in a context that is given."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]

    @contextmanager
    def hold() -> Iterator[None]:
        for one in running:
            one.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for one in running:
                one.send_signal(signal.SIGCONT)

    try:
        yield hold
    finally:
        for one in running:
            one.kill()
            one.wait()
