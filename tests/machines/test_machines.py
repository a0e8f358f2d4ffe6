"""What reads a machine's console, makes its initramfs and names its kernel, without a machine."""

from __future__ import annotations

import lzma
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.machines import __main__ as command
from tests.machines import boot, programs
from tests.machines.boot import Outcome, outcome_of, watch
from tests.machines.initramfs import initramfs, modules_of
from tests.machines.machine import MACHINES, Machine
from tests.machines.together import together
from tests.wait import wait_for

GOOD = """
MACHINE-STARTED 6.12.1
SKIPPED kvm: one
  /dev/kvm cannot be used
native: 7 passed, 0 failed, 1 skipped
python: 2 passed, 0 failed, 0 skipped
MACHINE-ENDED 0
"""


def test_a_console_shows_what_passed_and_why_tests_were_skipped() -> None:
    outcome = outcome_of("numa", GOOD.replace("\n", "\r\n"), 3.0)
    assert (outcome.kernel, outcome.passed, outcome.failed, outcome.good) == ("6.12.1", 9, 0, True)
    assert outcome.skipped == {"/dev/kvm cannot be used": 1}


@pytest.mark.parametrize(
    ("console", "shown"),
    [
        ("", "the machine did not boot"),
        ("MACHINE-STARTED 6.1\nHUNG a test\nMACHINE-ENDED 1", "HUNG a test"),
        (
            "MACHINE-STARTED 6.1\nFAILED a test\n  line 3: 1 != 2\nnative: 1 passed, 1 failed, 0 skipped\nMACHINE-ENDED 1",
            "1 != 2",
        ),
        ("MACHINE-STARTED 6.1\nnative: 1 passed, 0 failed, 0 skipped\n", "the tests did not end well"),
        ("MACHINE-STARTED 6.1\n[ 3.1] Kernel panic - not syncing\n", "Kernel panic"),
        ("MACHINE-STARTED 6.1\nMACHINE-ENDED 0\n", ""),
    ],
)
def test_a_machine_that_ends_badly_or_runs_no_test_is_no_good(console: str, shown: str) -> None:
    outcome = outcome_of("numa", console, 1.0)
    assert not outcome.good
    assert shown in " ".join(outcome.failures)


def test_a_machine_that_does_not_end_is_ended(tmp_path: Path) -> None:
    console, _ = watch(["sh", "-c", "echo MACHINE-STARTED 6.1; exec sleep 60"], tmp_path / "log", 1)
    assert "the machine was ended after 1 s" in console
    assert not outcome_of("numa", console, 1.0).good


def test_the_cpu_time_is_of_one_machine_also_when_another_one_runs(tmp_path: Path) -> None:
    busy = ["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done"]
    used = {}
    threads = [
        threading.Thread(target=lambda name=name, command=command: used.update({name: watch(command, tmp_path / name, 60)[1]}))
        for name, command in (("busy", busy), ("idle", ["sleep", "0.1"]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert used["busy"] > 3 * used["idle"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_emulator_ends_with_the_process_that_started_it(tmp_path: Path, number: signal.Signals) -> None:
    emulator = ["sh", "-c", "echo $$; exec sleep 300"]
    boots = f"boot.watch({emulator}, Path({str(tmp_path / 'log')!r}), 300)"
    program = f"""
from pathlib import Path
from tests.machines import boot
from tests.machines.machine import MACHINES
from tests.machines.together import together
from tests.wait import wait_for
next(together(MACHINES[:1], 1, lambda machine: {boots}))
"""
    running = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    log = tmp_path / "log"
    pid = wait_for(lambda: log.exists() and log.read_text().strip(), "the emulator's first line")
    os.kill(running.pid, number)
    running.wait(20)
    wait_for(lambda: not Path(f"/proc/{pid}/exe").exists(), "the end of the emulator")


def test_machines_run_as_many_at_a_time_as_there_are_cpus_and_one_that_breaks_stops_no_other() -> None:
    """Two of one thread meet, and never a third or one whose emulator has two threads."""
    meeting, lock, running, most = threading.Barrier(2), threading.Lock(), 0, []
    alone = [machine.name for machine in MACHINES if machine.threads > 1]

    def ends(machine: Machine) -> Outcome:
        nonlocal running
        with lock:
            running += 1
            most.append((running, machine.name in alone))
        if machine.name in ("numa", "oldest"):
            meeting.wait(20)
        with lock:
            running -= 1
        return Outcome(machine.name, failures=["broken"] if machine.name == "numa" else [])

    ended = [outcome.machine for outcome in together(MACHINES, 2, ends)]
    assert sorted(ended) == sorted(machine.name for machine in MACHINES) and ended[-len(alone) :] == alone
    assert max(most) <= (2, True) and all(count == 1 for count, is_alone in most if is_alone)


def test_the_table_has_a_line_a_machine_in_their_order_and_sums_and_a_failure_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = Outcome("oldest", "6.1", passed=2, failed=1, failures=["FAILED one", "  1 != 2"], seconds=1, cpu_s=2)
    outcomes = {"oldest": bad, "numa": Outcome("numa", "6.12", passed=3, skipped={"one NUMA node": 2}, seconds=2, cpu_s=3)}
    monkeypatch.setattr(command, "run", lambda machine, _: outcomes[machine.name])
    monkeypatch.setattr(sys, "argv", ["machines", "--only", "oldest", "--only", "numa"])
    assert command.main() == 1
    printed = capsys.readouterr().out.splitlines()
    assert "oldest:   1 != 2" in printed and "numa: 2 skipped: one NUMA node" in printed
    assert [line.split()[:5] for line in printed[-3:]] == [
        ["numa", "6.12", "3", "0", "2"],
        ["oldest", "6.1", "2", "1", "0"],
        ["all", "-", "5", "1", "2"],
    ]
    outcomes["oldest"] = Outcome("oldest", "6.1", passed=3)
    assert command.main() == 0


def test_a_machine_that_cannot_be_prepared_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> list[str]:
        raise ValueError("no such package")

    monkeypatch.setattr(boot, "prepared", refuses)
    outcome = boot.run(MACHINES[0])
    assert not outcome.good and "no such package" in outcome.failures[0]


def test_the_archive_is_one_that_cpio_reads_with_every_file_whole(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"x" * 4097)
    archive = initramfs("true", {"program": tmp_path / "program"}, [("a.ko", b"module")])
    assert archive.startswith(b"070701") and len(archive) % 4 == 0
    at, found = 0, {}
    while (name := _entry(archive, at)[0]) != "TRAILER!!!":
        name, body, at = _entry(archive, at)
        found[name] = body
    assert found["program"] == b"x" * 4097
    assert found["modules/order"] == b"a.ko" and found["work"] == b"true"


def _entry(archive: bytes, at: int) -> tuple[str, bytes, int]:
    fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
    name_end = at + 110 + fields[11]
    body = name_end + -name_end % 4
    end = body + fields[6]
    return archive[at + 110 : name_end - 1].decode(), archive[body:end], end + -end % 4


def test_modules_come_after_those_they_depend_on(tmp_path: Path) -> None:
    (tmp_path / "kvm-amd.ko.xz").write_bytes(lzma.compress(b"\0depends=kvm,nothing\0"))
    (tmp_path / "kvm.ko").write_bytes(b"\0depends=\0softdep=pre: irq-bypass\0")
    (tmp_path / "irq-bypass.ko").write_bytes(b"\0depends=\0")
    assert [name for name, _ in modules_of(tmp_path, ("kvm-amd", "virtio_blk"))] == ["irq-bypass.ko", "kvm.ko", "kvm-amd.ko"]


def test_a_machine_deals_its_memory_and_cpus_over_its_nodes() -> None:
    words = " ".join(next(one for one in MACHINES if one.nodes == 2).command("kernel", "initramfs", ["disk"]))
    assert "memory-backend-ram,id=m1,size=1024M -numa node,nodeid=1,memdev=m1,cpus=1-1" in words
    assert len({machine.name for machine in MACHINES}) == len(MACHINES)


def test_machines_of_one_kernel_share_its_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "CACHE", tmp_path)
    there = tmp_path / "kernels" / "numa"
    there.mkdir(parents=True)
    assert [programs.kernel_of(one) for one in MACHINES if one.name in ("numa", "no-counter")] == [there, there]


def test_an_unknown_machine_is_refused_with_those_there_are() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.machines", "--only", "vax"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "numa" in done.stderr
