"""Compiles the C programs of this folder, which share nothing with the core, each once for all test processes."""

from __future__ import annotations

import fcntl
import subprocess
from functools import cache
from hashlib import sha256
from pathlib import Path

FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")


@cache
def peer(name: str) -> str:
    """The path of the compiled program `name`.c, kept among build products by what it was made from."""
    source = Path(__file__).parent / f"{name}.c"
    made_from = sha256(source.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    program = Path(__file__).parents[2] / "build" / "peers" / f"{name}-{made_from}"
    program.parent.mkdir(parents=True, exist_ok=True)
    with open(source) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            unfinished = program.with_suffix(".part")
            subprocess.run(["gcc", *FLAGS, "-o", str(unfinished), str(source)], check=True)
            unfinished.rename(program)
    return str(program)
