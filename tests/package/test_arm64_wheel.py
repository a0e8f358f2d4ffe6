"""The wheel for arm64, cross-built on any machine."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests import needs
from tests.machines.machine import ARM64
from tests.machines.programs import cross_wheel

ELF_MACHINE_AT = 18
AARCH64 = 183
"""EM_AARCH64."""


@pytest.mark.timeout(600)
def test_the_wheel_for_arm64_says_so_in_its_name_in_its_tag_and_in_the_machine_of_its_extension(tmp_path: Path) -> None:
    needs.programs("g++-aarch64-linux-gnu", "aarch64-linux-gnu-g++")
    built = cross_wheel(ARM64, tmp_path)
    assert built.name.endswith("-cp311-cp311-linux_aarch64.whl")
    with zipfile.ZipFile(built) as wheel:
        [tags] = [name for name in wheel.namelist() if name.endswith(".dist-info/WHEEL")]
        assert "\nTag: cp311-cp311-linux_aarch64\n" in wheel.read(tags).decode()
        extension = wheel.read("workers/_native.cpython-311-aarch64-linux-gnu.so")
    assert int.from_bytes(extension[ELF_MACHINE_AT : ELF_MACHINE_AT + 2], "little") == AARCH64
