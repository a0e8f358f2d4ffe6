"""The native tests as part of `make test`: on the real kernel, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import subprocess

import pytest

from tests.native.run_native import build


@pytest.mark.timeout(600)
def test_every_native_test_passes() -> None:
    done = subprocess.run([str(build("address,undefined"))], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert " 0 failed" in done.stdout
