"""Builds the core with its native tests, with the sanitizers named on the command line or none, and runs them.

Usage: `python tests/native/run_native.py [--build] [address,undefined | thread]`; --build: it does not run them. Ends with the
tests' own exit status.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def cmake() -> str:
    """The program: this environment's, or the system's. Raises FileNotFoundError with what to do."""
    found = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise FileNotFoundError("cmake is not there: pip install cmake")
    return found


def build(sanitizers: str) -> Path:
    """The test program, built in a folder of its own under `build/`. Raises CalledProcessError with the compiler's words."""
    folder = ROOT / "build" / ("native-" + (sanitizers.replace(",", "-") or "plain"))
    options = ["-DUFFD_LOADGEN_TESTS=ON", "-DCMAKE_BUILD_TYPE=Debug", f"-DUFFD_LOADGEN_SANITIZE={sanitizers}"]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:  # another process may be building it
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in ([cmake(), "-S", str(ROOT), "-B", str(folder), *options], [cmake(), "--build", str(folder), "-j", "2"]):
            subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return folder / "native_tests"


def environment() -> dict[str, str]:
    """What the program is given: where a test waits for those of Python that have changed the host."""
    return os.environ | {"NATIVE_TEST_HOST_LOCK": str(ROOT / "tests")}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", action="store_true", help="do not run them")
    parser.add_argument("sanitizers", nargs="?", default="", help="as -fsanitize takes them")
    asked = parser.parse_args()
    try:
        program = build(asked.sanitizers)
    except subprocess.CalledProcessError as error:
        print(error.stdout)
        return 1
    if asked.build:
        return 0
    return subprocess.run([str(program)], env=environment(), timeout=1500, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
