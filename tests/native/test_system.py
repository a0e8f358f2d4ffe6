"""Where there is no userfaultfd to be had, building says so before any compiler does."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.native.run_native import ROOT, cmake


def test_elsewhere_than_on_linux_the_build_ends_with_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [cmake(), "-S", str(ROOT), "-B", str(tmp_path), "-DUFFD_LOADGEN_SYSTEM=Darwin"], capture_output=True, text=True
    )
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "userfaultfd is a Linux facility and this is Darwin: run on Linux 6.1 or later" in said
