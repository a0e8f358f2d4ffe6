"""One machine from power-on to power-off, and what its console showed."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.machines.debian import CACHE, need
from tests.machines.initramfs import ENDED, STARTED, initramfs, modules_of
from tests.machines.machine import Machine
from tests.machines.programs import busybox_of, kernel_of, native_tests_of
from tests.machines.rootfs import image_of, make_image

MODULES = ("virtio_pci", "virtio_blk", "ext4", "kvm-amd", "lzo-rle", "zram")
SCRATCH = """
mkdir -p /var/tmp
mount -t ext4 /dev/vda /var/tmp && cd /var/tmp || echo "FAILED no disk at /var/tmp"
"""
"""A snapshot file cannot be cold on tmpfs."""
NATIVE = """
export NATIVE_TEST_LIMIT_S=400 NATIVE_TEST_SLOWNESS=8 PYTHONDONTWRITEBYTECODE=1
status=0
/native_tests 'TESTS' || [ $? = 2 ] || status=1
"""
PRODUCT = """
mount -t ext4 -o ro /dev/vdb /mnt || status=1
for folder in dev dev/shm proc sys sys/kernel/tracing tmp; do mount -o bind /$folder /mnt/$folder; done
chroot /mnt /bin/busybox sh -c "cd /project && /usr/bin/python3.11 -m tests.machines.inside 'TESTS'" || [ $? = 2 ] || status=1
"""
"""The native tests, then those in Python on the disk. An emulated CPU is a hundredth of this one, so a test may take long;
status 2: no test has such a name."""
ENDING = """
[ $status = 0 ] || dmesg | grep -v "MCE: Killing" | tail -n 40
(exit $status)
"""
"""Of what the kernel wrote, all but a line for each poisoned page."""

NICENESS = 10
"""Of an emulator, whatever that of its parent."""
PREPARING = threading.Lock()
"""Machines share downloads and builds."""


@dataclass
class Outcome:
    """`skipped`: reasons and how often each; `failures`: the lines that tell of them; `cpu_s`: what the emulator used."""

    machine: str
    kernel: str = ""
    passed: int = 0
    failed: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def good(self) -> bool:
        """Tests ran, and none failed."""
        return self.passed > 0 and self.failed == 0 and not self.failures


def run(machine: Machine, tests: str = "") -> Outcome:
    """Boots it, runs the tests whose name holds `tests`, and keeps its console in a file of the cache."""
    try:
        with PREPARING:
            command = prepared(machine, tests)
        began = time.monotonic()
        console, cpu_s = watch(command, CACHE / f"{machine.name}.log", machine.limit_s)
        return outcome_of(machine.name, console, time.monotonic() - began, cpu_s)
    except Exception as error:  # the other machines run all the same
        return Outcome(machine.name, failures=[repr(error), str(getattr(error, "stdout", "") or "")[-2000:]])


def prepared(machine: Machine, tests: str) -> list[str]:
    """Downloads and builds what it boots; the emulator's command."""
    need(machine.architecture.qemu, machine.architecture.qemu_package)
    kernel = kernel_of(machine)
    work = (SCRATCH + NATIVE + (PRODUCT if machine.product else "") + ENDING).replace("TESTS", tests or machine.tests)
    files = {"bin/busybox": busybox_of(machine.architecture), "native_tests": native_tests_of(machine.architecture)}
    archive = CACHE / f"{machine.name}.cpio"
    archive.write_bytes(initramfs(work, files, modules_of(kernel, MODULES)))
    disks = [make_image(CACHE / f"{machine.name}.ext4", mib=128)]
    if machine.product:
        disks.append(image_of(machine.architecture))
    return machine.command(str(next(kernel.rglob("vmlinuz*"))), str(archive), [str(disk) for disk in disks])


def watch(command: list[str], log: Path, limit_s: int) -> tuple[str, float]:
    """Runs it to its end, or for so long: what it wrote, which `log` has too, and the CPU time that it used. The kernel ends it
    with this process, however this process ends."""
    with log.open("w") as file:
        began = time.monotonic()
        ends_with_us = ["setpriv", "--pdeathsig", "KILL", "nice", "-n", f"{max(0, NICENESS - os.nice(0))}"]
        process = subprocess.Popen([*ends_with_us, *command], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        timer = threading.Timer(limit_s, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if time.monotonic() - began >= limit_s:
            file.write(f"\nthe machine was ended after {limit_s} s\n")
    return log.read_text(errors="replace"), usage.ru_utime + usage.ru_stime


def outcome_of(name: str, console: str, seconds: float, cpu_s: float = 0.0) -> Outcome:
    """What a console showed, whether or not the machine came to its end."""
    outcome = Outcome(name, seconds=seconds, cpu_s=cpu_s)
    lines = console.replace("\r", "").splitlines()
    for number, line in enumerate(lines):
        if counts := re.fullmatch(r"(?:native|python): (\d+) passed, (\d+) failed, \d+ skipped", line):
            outcome.passed, outcome.failed = outcome.passed + int(counts[1]), outcome.failed + int(counts[2])
        elif line.startswith("SKIPPED "):
            reason = lines[number + 1].strip() if number + 1 < len(lines) else ""
            outcome.skipped[reason] = outcome.skipped.get(reason, 0) + 1
        elif line.startswith("FAILED "):
            outcome.failures += lines[number : number + 2]
        elif line.startswith(("HUNG ", "ENDED THE PROGRAM ", "the machine was ended ")) or "Kernel panic" in line:
            outcome.failures.append(line)
        elif line.startswith(STARTED):
            outcome.kernel = line.removeprefix(STARTED).strip()
    if not outcome.kernel:
        outcome.failures.append("the machine did not boot")
    elif not any(re.fullmatch(rf"{ENDED} 0", line) for line in lines) and not outcome.failures:
        outcome.failures.append("the tests did not end well: " + " / ".join(lines[-3:]))
    return outcome
