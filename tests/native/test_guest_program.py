"""What runs inside a guest refers to nothing outside itself, on each architecture."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

KVM = Path(__file__).resolve().parents[2] / "workers" / "native" / "kvm"
ARM64 = pytest.param(
    "aarch64-linux-gnu-",
    "guest_arm64.cpp",
    ("-mno-outline-atomics",),
    marks=pytest.mark.skipif(shutil.which("aarch64-linux-gnu-g++") is None, reason="apt-get install g++-aarch64-linux-gnu"),
    id="arm64",
)
X86_64 = pytest.param("", "guest_x86_64.cpp", (), id="x86_64")


@pytest.mark.parametrize(("tools", "architecture", "more"), [X86_64, ARM64])
def test_the_guest_program_and_its_host_side_compile_and_the_program_needs_nothing_but_itself(
    tools: str, architecture: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    flags = (KVM / "guest_flags.txt").read_text().split()
    for source, options in ((architecture, ()), ("vm.cpp", ()), ("guest_program.cpp", (*flags, *more))):
        command = [
            f"{tools}g++",
            "-std=c++20",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-missing-field-initializers",
            "-fPIC",
            f"-I{KVM.parent}",
        ]
        done = subprocess.run(
            [*command, *options, "-c", str(KVM / source), "-o", str(tmp_path / f"{source}.o")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    listing = subprocess.run(
        [f"{tools}readelf", "-rW", str(tmp_path / "guest_program.cpp.o")], capture_output=True, text=True, check=True
    ).stdout
    ours = listing.split("'.relauffd_guest'")[1].split("Relocation section")[0]
    symbols = set(re.findall(r"R_\S+\s+[0-9a-f]+\s+(\S+)", ours))
    assert symbols == {"uffd_guest_read", "uffd_guest_write"}
