"""The long counts: many runs, many vCPUs, much memory. `make soak` runs them; `make test` does not."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from results.store.dataset import DataSet
from tests.e2e.command import run
from tests.results.many import make, report

pytestmark = pytest.mark.soak


def all_ok(folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = DataSet.existing(str(folder / "outputs/dataset")).read("runs").to_pylist()
    assert {row["status"] for row in rows} == {"ok"}
    assert all(row["wrong_words"] == 0 for row in rows)
    return rows


def test_three_hundred_runs_with_overlap_delay_and_several_readers_leave_nothing_wrong(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "loadgen",
        "-m",
        "strategy=uffd_wait,no_uffd_wait,no_slow_gup",
        "fault_mix=mixed,absent",
        "vcpus=2,8",
        "repeats=25",
        "vcpus_per_vmm=2",
        "access.overlap=true",
        "access.read_share=0.5",
        "page_server.readers_per_uffd=2",
        "page_server.delay_us=30",
        "page_server.delay_distribution=exponential",
        "strategy.fault_around_pages=4",
        "memory.region_mib=16",
        timeout_s=1800,
    )
    assert done.returncode == 0, done.stderr
    assert len(all_ok(tmp_path)) == 300
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    assert peak_mib < 2048, f"the largest process needed {peak_mib:.0f} MiB"


def test_a_hundred_runs_of_postcopy_with_balloon_and_devices_end_with_every_page_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"UFFD_LOADGEN_SOAK={tmp_path}"
    monkeypatch.setenv(*mark.split("=", 1))
    done = run(
        tmp_path,
        "loadgen",
        "-m",
        "strategy=uffd_wait,no_uffd_wait,no_slow_gup,populate",
        "fault_mix=postcopy",
        "swap=zram",
        "disturb=[balloon,devices]",
        "disturb.balloon.method=remove",
        "vcpus=8",
        "vcpus_per_vmm=8",
        "repeats=25",
        "access.overlap=true",
        "page_server.readers_per_uffd=3",
        "strategy.fault_around_pages=4",
        "memory.region_mib=16",
        timeout_s=1800,
    )
    assert done.returncode == 0, done.stderr
    rows = all_ok(tmp_path)
    assert len(rows) == 100
    assert all(row["ended_in_flight"] == 0 for row in rows)
    assert all(row["memory_errors"] == row["vcpus"] * row["poisoned_pages"] for row in rows)  # type: ignore[operator]
    assert sum(row["pages_dropped"] for row in rows) > 0 and sum(row["device_accesses"] for row in rows) > 0  # type: ignore[misc]
    assert not processes_with(mark)


def processes_with(mark: str) -> list[str]:
    """Pids of processes that inherited an entry of the environment."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environ.read_bytes().split(b"\0") and environ.parent.name != str(os.getpid()):
                found.append(environ.parent.name)
        except OSError:  # gone meanwhile
            continue
    return found


@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait", "no_slow_gup"])
def test_256_vcpus_in_one_vmm_process_run_to_the_end(tmp_path: Path, strategy: str) -> None:
    done = run(tmp_path, "loadgen", f"strategy={strategy}", "vcpus=256", "vcpus_per_vmm=256", timeout_s=600)
    assert done.returncode == 0, done.stderr
    [row] = all_ok(tmp_path)
    assert row["pages_resolved"] == row["pages"]


def test_32_vmm_actors_run_to_the_end(tmp_path: Path) -> None:
    done = run(tmp_path, "loadgen", "vcpus=32", timeout_s=600)
    assert done.returncode == 0, done.stderr
    all_ok(tmp_path)


def test_a_region_of_4_gib_runs(tmp_path: Path) -> None:
    done = run(tmp_path, "loadgen", "strategy=no_slow_gup", "memory.region_mib=4096", "vcpus=2", timeout_s=600)
    assert done.returncode == 0, done.stderr
    [row] = all_ok(tmp_path)
    assert row["pages_resolved"] == 1 << 20


def test_a_report_on_1000_runs_and_100_million_faults_takes_under_2_gib_and_2_minutes(tmp_path: Path) -> None:
    make(str(tmp_path / "dataset"), 1000, 100_000_000)
    done = report(tmp_path)
    print(f"report: {done.seconds:.0f} s, {done.peak_mib:.0f} MiB")
    assert "100,000,000 faults recorded" in (tmp_path / "report.html").read_text()
    assert done.peak_mib < 2048
    assert done.seconds < 120
