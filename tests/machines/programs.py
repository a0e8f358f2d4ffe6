"""What runs on the machines, built once: the native tests as a static program, the Python extension, and busybox."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.machines.debian import CACHE, ROOT, Apt, need
from tests.machines.machine import ARM64, BOOKWORM, MACHINES, Architecture, Machine
from tests.native.run_native import cmake


def kernel_of(machine: Machine) -> Path:
    """The unpacked package: `boot/vmlinuz-*` and `lib/modules`, one for all machines that boot it."""
    first = next(one for one in MACHINES if (one.architecture, one.kernel) == (machine.architecture, machine.kernel))
    folder = CACHE / "kernels" / first.name
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


@functools.cache
def native_tests_of(architecture: Architecture) -> Path:
    """The native tests, statically linked. Raises CalledProcessError with the compiler's words."""
    if architecture is ARM64:
        need("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    folder = CACHE / architecture.name
    options = ["-DUFFD_LOADGEN_TESTS=ON", "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_EXE_LINKER_FLAGS=-static", *architecture.cross]
    for command in ([cmake(), "-S", str(ROOT), "-B", str(folder), *options], [cmake(), "--build", str(folder), "-j", "2"]):
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return folder / "native_tests"


def extension_of(architecture: Architecture) -> Path:
    """The native core as Python imports it: this environment's, or the one in a wheel that is built for the architecture."""
    if not architecture.cross:
        found = importlib.util.find_spec("workers._native")
        assert found is not None and found.origin is not None
        return Path(found.origin)
    folder = CACHE / "wheel" / architecture.name
    with zipfile.ZipFile(cross_wheel(architecture, folder)) as wheel:
        [name] = [name for name in wheel.namelist() if re.fullmatch(r"workers/_native\..*so", name)]
        return Path(wheel.extract(name, folder))


def cross_wheel(architecture: Architecture, folder: Path) -> Path:
    """This checkout's wheel for another architecture, built with this Python's headers, whose sizes are those of every 64-bit
    Linux. Raises CalledProcessError with the compiler's words."""
    suffix = f".cpython-{sys.version_info.major}{sys.version_info.minor}-{architecture.wheel}-linux-gnu.so"
    environment = os.environ | {
        "CMAKE_ARGS": " ".join(architecture.cross),
        "SETUPTOOLS_EXT_SUFFIX": suffix,
        "_PYTHON_HOST_PLATFORM": f"linux-{architecture.wheel}",
    }
    for old in folder.glob("*.whl"):
        old.unlink()
    build = ["-q", "--no-build-isolation", "--no-deps", "-C", f"build-dir={folder / 'build'}", "-C", "cmake.build-type=Debug"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", *build, "-w", str(folder), str(ROOT)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    [wheel] = folder.glob("*.whl")
    return wheel
