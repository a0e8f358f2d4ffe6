"""What reads a machine's console, makes its initramfs and names its kernel, without a machine."""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machines import programs
from tests.machines.boot import outcome_of, watch
from tests.machines.initramfs import initramfs, modules_of
from tests.machines.machine import MACHINES

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
    console = watch(["sh", "-c", "echo MACHINE-STARTED 6.1; exec sleep 60"], tmp_path / "log", 1)
    assert "the machine was ended after 1 s" in console
    assert not outcome_of("numa", console, 1.0).good


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
