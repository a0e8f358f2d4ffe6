"""Builds the fuzzers of the remote source's protocol (clang and its libFuzzer) and runs one of them.

Usage: `python -m tests.fuzz.run_fuzz parser|to_source|to_page_server RUNS`. Ends with the fuzzer's own exit status: not 0 for a
crash, a leak, a hang, or anything undefined; what it was given is then in `build/fuzz/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "fuzz"
TARGETS = ("parser", "to_source", "to_page_server")
LONGEST_INPUT_BYTES = 4096
HANG_S = 25


def have_clang() -> bool:
    """Whether the compiler is there."""
    return shutil.which("clang++") is not None


def build() -> None:
    """All fuzzers, in `build/fuzz/`. Raises RuntimeError with the compiler's words."""
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if cmake is None:
        raise FileNotFoundError("cmake is not there: pip install cmake")
    options = ["-DUFFD_LOADGEN_FUZZ=ON", "-DCMAKE_CXX_COMPILER=clang++", "-DCMAKE_BUILD_TYPE=Debug"]
    for command in ([cmake, "-S", str(ROOT), "-B", str(FOLDER), *options], [cmake, "--build", str(FOLDER), "-j", "2"]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")


def fuzz(target: str, runs: int, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Give `runs` inputs to a target; the same in every session."""
    command = [
        str(FOLDER / f"fuzz_{target}"),
        f"-runs={runs}",
        "-seed=1",
        f"-max_len={LONGEST_INPUT_BYTES}",
        f"-timeout={HANG_S}",
    ]
    # Threads of the source come and go between inputs: only what is left at the end is a leak.
    command += ["-detect_leaks=0", "-rss_limit_mb=1024", "-verbosity=0", "-print_final_stats=1"]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=timeout_s, check=False)


def main() -> int:
    target, runs = sys.argv[1], int(sys.argv[2])
    try:
        build()
    except RuntimeError as error:
        print(error)
        return 1
    done = fuzz(target, runs, 3600)
    print(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
