"""What runs on the machines, built once: the native tests as a static program, and busybox."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.machines.debian import CACHE, ROOT, Apt, need
from tests.machines.machine import ARM64, BOOKWORM, Architecture, Machine
from tests.native.run_native import cmake


def kernel_of(machine: Machine) -> Path:
    """The unpacked package: `boot/vmlinuz-*` and `lib/modules`."""
    folder = CACHE / "kernels" / machine.name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        apt = Apt(machine.suites, machine.architecture.debian)
        name = apt.newest(machine.kernel)
        also = [machine.modules.format(*re.findall(machine.kernel, name))] if machine.modules else []
        apt.unpack([name, *also], folder)
    return folder


def busybox_of(architecture: Architecture) -> Path:
    """The program."""
    folder = CACHE / "busybox" / architecture.name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        Apt(BOOKWORM, architecture.debian).unpack(["busybox-static"], folder)
    return folder / "bin" / "busybox"


def native_tests_of(architecture: Architecture) -> Path:
    """The native tests, statically linked. Raises CalledProcessError with the compiler's words."""
    if architecture is ARM64:
        need("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    folder = CACHE / architecture.name
    options = ["-DUFFD_LOADGEN_TESTS=ON", "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_EXE_LINKER_FLAGS=-static", *architecture.cmake]
    for command in ([cmake(), "-S", str(ROOT), "-B", str(folder), *options], [cmake(), "--build", str(folder), "-j", "2"]):
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return folder / "native_tests"
