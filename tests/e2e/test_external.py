"""Sweeps whose guests are served by a fault handler that is not ours, through the driver and Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from results.store.dataset import DataSet
from results.verify.verification import verify
from tests.e2e import events, processes
from tests.e2e.conftest import Start
from tests.e2e.in_session import Bench
from tests.peers.build import peer
from tests.wait import wait_for

GUEST = (
    "page_server=external",
    "fault_mix=absent",
    "memory.region_mib=2",
    "vcpus=2",
    "vcpus_per_vmm=2",
    "cluster.exclusive=false",
)
PAGES = 512


def served(bench: Bench, options: str, *overrides: str) -> dict[str, Any]:
    """The row of a run against the C handler with these options."""
    command = f"page_server.command='{peer('handler')} {{socket}} {{snapshot}} {options}'"
    return bench.run(*GUEST, command, *overrides)


def test_a_row_names_the_handler_and_what_it_used_and_brought(bench: Bench, tmp_path: Path) -> None:
    row = served(bench, "", "memory.regions=2")
    assert (row["status"], row["reason"], row["wrong_words"]) == ("ok", None, 0)
    assert (row["page_server"], row["handler_version"], row["handler_threads"]) == ("external", "test handler 1.0", 1)
    assert (row["pages_resolved"], row["pages_brought_ahead"], row["pages_brought_untouched"]) == (PAGES, 0, 0)
    assert row["handler_cpu_s"] > 0 and row["handler_peak_bytes"] > 0 and row["handler_voluntary_switches"] > 0
    assert 0 < row["touched_50_ns"] <= row["touched_90_ns"] <= row["touched_100_ns"]
    assert row["longest_stall_ns"] > 0
    assert [row.get(name) for name in ("events", "fetched_pages", "eexist", "wait", "readers_per_uffd")] == [None] * 5
    dataset = DataSet.existing(str(tmp_path / "dataset"))
    [faults] = dataset.read("faults", ["raised_ns", "delivered_ns", "fetched_ns", "installed_ns", "resumed_ns"]).to_batches()
    seen = faults.to_pydict()
    assert None not in seen["raised_ns"] and None not in seen["resumed_ns"]
    assert {*seen["delivered_ns"], *seen["fetched_ns"], *seen["installed_ns"]} == {None}
    assert [one["role"] for one in dataset.read("threads", ["role"]).to_pylist()].count("handler") == 1
    assert list(verify(dataset)) == []


def test_a_sweep_goes_on_after_handlers_that_break(bench: Bench) -> None:
    broken = {
        "exits=3": ("failed", "the handler ended with exit status 3 while it served; its stderr: handler: the disk"),
        "freezes": ("stuck", "is stopped by a signal (SIGSTOP)"),
        "zero-page": ("corrupt", "; zeros: the handler served a zero page"),
        "never-listens": ("failed", "the handler did not listen at {socket} within 1 s"),
    }
    for fault, (status, reason) in broken.items():
        row = served(bench, f"--fault {fault}", "watchdog_s=1")
        assert row["status"] == status, row["reason"]
        assert reason in row["reason"]
        after = served(bench, "")
        assert (after["status"], after["wrong_words"]) == ("ok", 0)


def test_guests_share_one_handler_or_have_one_each(bench: Bench) -> None:
    shared, own = (served(bench, "--serves-many", "guests=2", more) for more in ("page_server.shared=true", "seed=2"))
    assert (shared["status"], shared["handler_threads"], shared["pages_resolved"]) == ("ok", 1, 2 * PAGES)
    assert (own["status"], own["handler_threads"], own["pages_resolved"]) == ("ok", 2, 2 * PAGES)


def test_a_handler_ends_with_its_driver_however_that_ends(tmp_path: Path, start: Start) -> None:
    command = f"page_server.command='{peer('handler')} {{socket}} {{snapshot}}'"
    driver = start(*GUEST, command, "access.think_us=100000")
    events.measured_phase(tmp_path)

    def handlers() -> list[int]:
        return [pid for folder in folders for pid in processes.using(folder) if peer("handler") in processes.command_line(pid)]

    folders = [one for one in processes.folders() if f"ulg-{driver.pid}-" in one]
    assert len(handlers()) == 1
    driver.kill()
    driver.wait()
    wait_for(lambda: not handlers(), "the end of the handler", 10)
