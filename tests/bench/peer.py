"""The kernel's own demand_paging_test: where it comes from, and what it prints.

`DEMAND_PAGING_TEST` names a built one; otherwise it is built, outside this tree, from the kernel source that Debian installs.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "DEMAND_PAGING_TEST"
HOW_TO_GET_IT = f"apt-get install linux-source-6.12, or name a built one in {VARIABLE}"
SOURCES = Path("/usr/src")
OLDEST = (6, 10)
"""The release whose test first had `-a` (one userfaultfd) and `-r` (readers for each)."""
PARTS = (
    *("Makefile", "Kbuild", "scripts", "usr", "arch/x86", "include/uapi", "include/asm-generic"),
    *(f"tools/{name}" for name in ("build", "lib", "include", "scripts", "arch/x86/include")),
    *(f"tools/testing/selftests/{name}" for name in ("kvm", "rseq", "lib.mk", "kselftest.h", "kselftest_harness.h")),
)
"""What of the kernel's source `make headers` and the test need."""
RATE = re.compile(r"Overall demand paging rate:\s*([\d.]+) pgs/sec")
RESOLVED = re.compile(r"UFFDIO_CONTINUE: (\d+) pages")


def newest_source(folder: Path = SOURCES) -> Path | None:
    """The newest Debian kernel source in `folder` that has the test as needed here; None when there is none."""
    found = {}
    for path in folder.glob("linux-source-*.tar.xz"):
        version = tuple(int(part) for part in re.findall(r"\d+", path.name))
        if version >= OLDEST:
            found[version] = path
    return found[max(found)] if found else None


def build(source: Path, into: Path) -> Path:
    """Build demand_paging_test from `source`, an archive, in the folder `into`; returns the program. Half a minute.

    Raises RuntimeError with the failed command's own words.
    """
    tree = into / source.name.removesuffix(".tar.xz")
    program = into / "demand_paging_test"
    _run("tar", "-xJf", source, "-C", into, "--occurrence=1", *(f"{tree.name}/{part}" for part in PARTS))
    _run("make", "-s", "-C", tree, "headers")
    _run("make", "-s", "-C", tree / "tools/testing/selftests/kvm", f"OUTPUT={into}", program)
    return program


def counter(into: Path) -> Path:
    """count_continues.cpp, built in `into`. Raises RuntimeError with the compiler's words."""
    library = into / "count_continues.so"
    if not library.exists():
        _run("g++", "-O2", "-shared", "-fPIC", Path(__file__).with_name("count_continues.cpp"), "-o", library)
    return library


def peer(into: Path) -> Path | None:
    """The program, named or built in `into`; None when there is neither. Raises RuntimeError when it cannot be had."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        if not os.access(named, os.X_OK):
            raise RuntimeError(f"{VARIABLE}={named} is no program that can be run")
        return Path(named)
    source = newest_source()
    return None if source is None else build(source, into)


@dataclass(frozen=True)
class PeerShape:
    """One run of it: minor faults on shared memory, as many readers as vCPUs, each vCPU in order. `single`: behind one
    userfaultfd, or else each vCPU's memory behind one of its own."""

    vcpus: int
    mib_per_vcpu: int
    single: bool

    @property
    def pages(self) -> int:
        """All that the guests touch."""
        return (self.mib_per_vcpu << 20) // 4096 * self.vcpus

    def arguments(self) -> list[str]:
        """Its command line."""
        shared = ["-a", f"-r{self.vcpus}"] if self.single else ["-r1"]
        return ["-u", "MINOR", "-s", "shmem", *shared, f"-v{self.vcpus}", f"-b{self.mib_per_vcpu}M"]


@dataclass(frozen=True)
class PeerRate:
    """Pages of 4096 bytes a second: `printed`, and those of them that a reader `resolved`. Of Linux 6.12, `-a` fills the memory
    of the first vCPU alone, so that the others' pages are the kernel's to bring in, and counts them all the same."""

    printed: float
    resolved: float


def rate_of(program: Path, counter: Path, shape: PeerShape) -> PeerRate:
    """What one run came to. `counter`: count_continues.cpp, built. Raises RuntimeError."""
    said = _run(program, *shape.arguments(), preload=counter)
    printed, resolved = RATE.search(said), RESOLVED.search(said)
    if printed is None:
        raise RuntimeError(f"{program.name} printed no overall rate (it needs -a and -r, Linux 6.10): {said.strip()}")
    if resolved is None:
        raise RuntimeError(f"{program.name} resolved no page that could be counted: is it linked statically?")
    rate = float(printed.group(1))
    return PeerRate(rate, rate * int(resolved.group(1)) / shape.pages)


def _run(*command: str | Path, preload: Path | None = None) -> str:
    words: Sequence[str] = [str(word) for word in command]
    environment = os.environ | ({} if preload is None else {"LD_PRELOAD": str(preload)})
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(words)}` failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout + done.stderr
