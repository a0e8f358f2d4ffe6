"""The driver's watch over itself: the rules by hand, the looks on the real machine."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loadgen.host.interference import Snapshot, cpu_share, driver_row, snapshot, watched
from results.derive.trust import Seen, headline, judged, reasons

QUIET = Seen(
    watched_s=1.0,
    machine_cpus=4,
    unprepared=0,
    rig_cpu_share=0.1,
    other_cpu_share=0.1,
    steal_share=0.0,
    lag_s=0.005,
    switches_per_s=3.0,
)


def test_nothing_speaks_against_a_quiet_run() -> None:
    assert reasons(QUIET) == []
    assert reasons(dataclasses.replace(QUIET, lag_s=None, switches_per_s=None)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"unprepared": 7}, "pages were not in the state asked for (7)"),
        ({"lag_s": 0.31}, "status poll late (0.31 s)"),
        ({"rig_cpu_share": 0.5}, "benchmark overhead was high (0.50 of 4 CPUs)"),
        ({"other_cpu_share": 1.0}, "other processes were busy (1.00 of 4 CPUs)"),
        ({"steal_share": 0.25}, "the hypervisor took CPU time (0.25 of 4 CPUs)"),
        ({"switches_per_s": 250.0}, "pinned threads were preempted (250/s each)"),
    ],
)
def test_each_thing_that_speaks_against_a_run_is_named_with_its_figures(changes: dict[str, Any], reason: str) -> None:
    assert reasons(dataclasses.replace(QUIET, **changes)) == [reason]
    assert headline(reason) == reason[: reason.index(" (")]


def test_everything_that_speaks_against_a_run_is_named() -> None:
    assert len(reasons(dataclasses.replace(QUIET, unprepared=1, lag_s=2.0, rig_cpu_share=4.0, other_cpu_share=4.0))) == 4


def test_shares_of_a_very_short_look_are_not_judged_but_page_states_are() -> None:
    short = dataclasses.replace(QUIET, watched_s=0.04, rig_cpu_share=0.9, other_cpu_share=2.0, switches_per_s=900.0, unprepared=1)
    assert reasons(short) == ["pages were not in the state asked for (1)"]


@pytest.mark.parametrize(
    ("changes", "trusted"),
    [
        ({}, True),
        ({"watched_s": 0.04}, None),
        ({"watched_s": 0.05, "other_cpu_share": 0.0}, None),  # a tick of each of 4 CPUs is 0.8 CPUs of 0.05 s
        ({"watched_s": 0.1, "other_cpu_share": 0.0}, True),
        ({"watched_s": 0.1, "other_cpu_share": 0.1}, None),
        ({"watched_s": 0.1, "other_cpu_share": 0.7}, None),
        ({"watched_s": 0.1, "other_cpu_share": 0.81}, False),
        ({"watched_s": 0.01, "unprepared": 1}, False),
    ],
)
def test_a_run_is_trusted_flagged_or_not_judged(changes: dict[str, Any], trusted: bool | None) -> None:
    assert judged(dataclasses.replace(QUIET, **changes))[0] is trusted


def burn(seconds: float) -> None:
    """Use `seconds` of CPU time in this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_what_a_thread_of_the_rig_burns_is_the_rigs_unless_the_thread_is_one_of_those_measured() -> None:
    burned, released = threading.Event(), threading.Event()
    tid = 0

    def work() -> None:
        nonlocal tid
        tid = threading.get_native_id()
        burn(0.2)
        burned.set()
        released.wait(30)

    before = snapshot()
    worker = threading.Thread(target=work)
    worker.start()
    assert burned.wait(30)
    after = snapshot()
    released.set()
    worker.join()
    seconds = after.at_s - before.at_s
    whole = cpu_share(before, after) * seconds
    assert whole >= 0.2
    assert cpu_share(before, after, without=frozenset({tid})) * seconds <= whole - 0.2


def test_what_a_child_process_burns_is_the_rigs() -> None:
    before = snapshot()
    program = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    after = snapshot()
    child.communicate(b"\n")
    assert cpu_share(before, after) * (after.at_s - before.at_s) >= 0.2


@contextmanager
def stranger() -> Iterator[None]:
    """A busy process that is no descendant of ours."""
    shell = subprocess.run(
        ["sh", "-c", f"{sys.executable} -c 'while True: pass' >/dev/null 2>&1 & echo $!"],
        capture_output=True,
        text=True,
        check=True,
    )
    try:
        yield
    finally:
        os.kill(int(shell.stdout), signal.SIGKILL)


def look_at(threads: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    before = snapshot()
    time.sleep(0.5)
    return watched(before, snapshot(), threads, **{"lag_s": None, "unprepared": 0, "exclusive": True} | more)


def test_a_busy_process_outside_the_run_counts_as_other_and_flags_the_run() -> None:
    with stranger():
        columns = look_at([])
    assert columns["other_cpu_share"] > 0.5
    assert columns["rig_cpu_share"] < 0.3
    if (os.cpu_count() or 1) <= 4:
        assert columns["trusted"] is False
        assert "other processes were busy" in columns["distrust"]


@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.1, 0.2, 0.5])
def test_beside_a_cpu_hog_no_run_of_whatever_length_comes_out_trusted(seconds: float) -> None:
    with stranger():
        for _ in range(5):
            before = snapshot()
            time.sleep(seconds)
            assert watched(before, snapshot(), [], lag_s=None, unprepared=0, exclusive=True)["trusted"] is not True


def snapshots(seconds: float, thread_ns: dict[int, int]) -> tuple[Snapshot, Snapshot]:
    """Two looks at an otherwise idle machine."""
    before = dataclasses.replace(snapshot(), thread_ns=dict.fromkeys(thread_ns, 0))
    return before, dataclasses.replace(before, at_s=before.at_s + seconds, thread_ns=thread_ns)


def thread(role: str, tid: int, switches: int) -> dict[str, Any]:
    return {"role": role, "tid": tid, "user_ns": 0, "system_ns": 0, "involuntary_switches": switches}


def test_threads_that_have_to_take_turns_are_not_held_to_having_a_cpu_of_their_own() -> None:
    threads = [thread("vcpu", 1, 900), thread("reader", 2, 900), thread("ring", 3, 5)]
    before, after = snapshots(1.0, {2: 10**8, 3: 10**6})
    alone = watched(before, after, threads, lag_s=None, unprepared=0, exclusive=True)
    assert alone["involuntary_switches"] == 1800
    assert alone["distrust"] == "pinned threads were preempted (900/s each)"
    crowded = watched(before, after, threads, lag_s=None, unprepared=0, exclusive=False)
    assert crowded["trusted"] is True and crowded["distrust"] is None
    before, after = snapshots(1.0, {2: 10**8, 3: 10**8})  # the ring's thread works, on whatever CPU
    assert watched(before, after, threads, lag_s=None, unprepared=0, exclusive=True)["trusted"] is True


def test_what_a_vmm_process_does_between_rounds_is_neither_overhead_nor_a_thread_beside_the_pinned_ones() -> None:
    preparing = thread("vmm", 3, 0) | {"user_ns": 9 * 10**8}
    before, after = snapshots(1.0, {3: 9 * 10**8})
    assert watched(before, after, [], lag_s=None, unprepared=0, exclusive=True)["rig_cpu_share"] == pytest.approx(0.9)
    columns = watched(before, after, [thread("vcpu", 1, 900), preparing], lag_s=None, unprepared=0, exclusive=True)
    assert columns["rig_cpu_share"] == 0.0
    assert columns["distrust"] == "pinned threads were preempted (900/s each)"


def test_the_drivers_row_is_its_process() -> None:
    before = snapshot()
    burn(0.05)
    row = driver_row(before, snapshot())
    assert (row["role"], row["number"], row["tid"]) == ("driver", 0, os.getpid())
    assert row["user_ns"] + row["system_ns"] >= 45_000_000
    assert set(row["cpus"]) <= set(range(os.cpu_count() or 1))


def looked(at_s: float, busy_s: float, thread_ns: dict[int, int]) -> Snapshot:
    now = snapshot()
    return dataclasses.replace(now, at_s=at_s, busy_s=busy_s, steal_s=0.0, thread_ns=thread_ns)


@pytest.mark.parametrize(
    ("role", "inside"), [("vcpu", True), ("balloon", True), ("reader", False), ("ring", False)], ids=lambda value: str(value)
)
def test_the_guests_own_threads_are_neither_other_processes_nor_overhead(role: str, inside: bool) -> None:
    """A second in which one thread of the run used 0.9 CPUs, the driver 0.1 and other processes 0.5."""
    thread = {"role": role, "tid": 77, "user_ns": 600_000_000, "system_ns": 300_000_000, "involuntary_switches": 0}
    # Threads of vCPUs and disturbances live inside the measured phase; the others are seen by both looks.
    seen = ({}, {}) if inside else ({77: 0}, {77: 900_000_000})
    before, after = looked(10.0, 100.0, {1: 0, **seen[0]}), looked(11.0, 101.5, {1: 100_000_000, **seen[1]})
    columns = watched(before, after, [thread], lag_s=None, unprepared=0, exclusive=True)
    assert columns["other_cpu_share"] == pytest.approx(0.5)
    assert columns["rig_cpu_share"] == pytest.approx(0.1)
    assert columns["machine_cpus"] == os.cpu_count()
