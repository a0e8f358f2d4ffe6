"""The native tests as part of `make test`: built once without sanitizers, on the real kernel."""

from __future__ import annotations

import subprocess

import pytest

from tests.native.run_native import build


@pytest.mark.timeout(300)
def test_every_native_test_passes() -> None:
    done = subprocess.run([str(build(""))], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert " 0 failed" in done.stdout
