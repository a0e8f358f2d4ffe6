"""The rig's own faults and guests' hostile peers, by the hundred and by the million."""

from __future__ import annotations

import json
import random
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from results.store.dataset import DataSet
from tests.e2e import processes
from tests.e2e.command import run, start
from tests.e2e.test_rig_faults import kill_while_it_runs
from tests.fuzz.run_fuzz import build, fuzz, have_clang
from tests.wait import wait_for
from workers.protocol.handshake import HandshakeError, Region, parse_extras, parse_regions
from workers.protocol.receive import JsonEnd

pytestmark = pytest.mark.soak

KILLS = 100


@pytest.mark.timeout(3600)
def test_a_hundred_page_servers_killed_in_one_sweep_lose_no_run_and_no_page(tmp_path: Path) -> None:
    arguments = ["-m", "strategy=uffd_wait,no_slow_gup,no_uffd_wait", "fault_mix=absent", "repeats=80", "recover=true", "vcpus=2"]
    arguments += ["access.rate_per_s=400", "memory.region_mib=4", "watchdog_s=60"]
    driver = start(tmp_path, *arguments)
    try:
        wait_for(lambda: processes.actors(driver.pid, "Vcpu"), "a VMM process")
        assert kill_while_it_runs(driver, "PageServer", KILLS, 4.0) == KILLS
        ended = driver.wait(timeout=3000)
    finally:
        processes.end(driver)
    rows = DataSet.existing(str(tmp_path / "outputs/dataset")).read("runs").to_pylist()
    assert [f"{row['run_id']}: {row['status']}: {row['reason']}" for row in rows if row["status"] != "ok"] == []
    assert len(rows) == 240 and ended == 0
    assert {(row["wrong_words"], row["pages_resolved"]) for row in rows} == {(0, 1024)}


@pytest.mark.timeout(3600)
def test_five_hundred_runs_leave_the_drivers_memory_flat_and_cost_no_more_than_the_first_ones(tmp_path: Path) -> None:
    driver = start(tmp_path, "-m", "strategy=uffd_wait,no_slow_gup", "repeats=250", "memory.region_mib=1")
    stored, sizes = tmp_path / "outputs/dataset/runs", []
    try:
        for runs in (100, 200, 300, 400, 490):
            wait_for(lambda enough=runs: stored.exists() and len(list(stored.rglob("*.parquet"))) >= enough, "runs", 1800)
            sizes.append(resident_mib(driver.pid))
        assert driver.wait(timeout=600) == 0
    finally:
        processes.end(driver)
    assert sizes[-1] < sizes[0] + 20, f"the driver's memory grew: {sizes} MiB"
    rows = DataSet.existing(str(tmp_path / "outputs/dataset")).read("runs", ["run_id", "status", "overhead_s"]).to_pylist()
    assert len(rows) == 500 and {row["status"] for row in rows} == {"ok"}
    overheads = [row["overhead_s"] for row in sorted(rows, key=lambda row: row["run_id"])]
    early, late = (sorted(part)[len(part) // 2] for part in (overheads[50:150], overheads[-100:]))
    assert late < 1.5 * early, f"a run's overhead went from {early:.3f} s to {late:.3f} s"


def resident_mib(pid: int) -> float:
    """Memory of a process that is in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("target", "inputs"), [("parser", 1_000_000), ("to_source", 200_000), ("to_page_server", 10_000)])
def test_hostile_bytes_by_the_million_cause_no_crash_no_leak_and_no_hang(target: str, inputs: int) -> None:
    if not have_clang():
        pytest.skip("libFuzzer comes with clang: apt-get install clang")
    build()
    done = fuzz(target, inputs, 3500)
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"stat::number_of_executed_units: {inputs}" in done.stderr


@pytest.mark.timeout(3600)
def test_a_million_hostile_handshakes_are_refused_with_a_reason_or_lie_inside_the_guest() -> None:
    chance = random.Random(1)
    good = json.dumps([Region(page << 12, 32 << 12, at << 12, 4096).as_json() for page, at in ((512, 0), (1024, 32))]).encode()
    extras = json.dumps({"magic": "uffd-loadgen", "version": 1, "vmm": 0, "shard": 0}).encode()
    understood = 0
    for _ in range(1_000_000):
        sent = bytearray(chance.choice((good, extras)))
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(sent))
            sent[at : at + chance.randrange(3)] = chance.choice(
                (b"", b"9", b"-", b"e9", b"[", b"}", b"\xff", b"\x00", b"null", b'"')
            )
        message = bytes(sent[: chance.randrange(len(sent) + 1)] if chance.random() < 0.1 else sent)
        JsonEnd().feed(message)
        for parse, sizes in ((parse_regions, (4096, 64 << 12)), (parse_extras, ())):
            with suppress(HandshakeError):
                parse(message, *sizes)
                understood += 1
    assert understood > 10_000


def test_killing_and_resuming_a_sweep_again_and_again_ends_with_the_runs_of_an_undisturbed_one(tmp_path: Path) -> None:
    arguments = ["-m", "strategy=uffd_wait,no_slow_gup", "vcpus=1,2", "repeats=5", "memory.region_mib=1", "quiet=true"]
    for seconds in (4, 6, 5, 8):
        process = start(tmp_path, *arguments, "resume=true")
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    done = run(tmp_path, "loadgen", *arguments, "resume=true", timeout_s=600)
    assert done.returncode == 0, done.stderr
    rows = DataSet.existing(str(tmp_path / "outputs/dataset")).read("runs").to_pylist()
    found = sorted((row["strategy"], row["vcpus"], row["repeat"]) for row in rows)
    assert found == sorted((s, v, r) for s in ("uffd_wait", "no_slow_gup") for v in (1, 2) for r in range(5))
