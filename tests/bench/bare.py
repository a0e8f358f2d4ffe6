"""Compiling the bare reference loops and driving one: a line in starts a pass, a JSON line out is what it measured."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent
COMPILE = ("g++", "-O2", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-pthread")


def compile_bare(name: str, into: Path) -> Path:
    """Compile `bare/<name>.cpp` (or `<name>.cpp` beside this file) into `into`, once; returns the program.

    Raises RuntimeError with the compiler's own words.
    """
    program = into / name
    if program.exists():
        return program
    source = next(path for path in (HERE / "bare" / f"{name}.cpp", HERE / f"{name}.cpp") if path.exists())
    done = subprocess.run([*COMPILE, str(source), "-o", str(program)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
    return program


@dataclass(frozen=True)
class BareShape:
    """What a bare loop is asked to do. `pages` are 4096 bytes; CPUs are dealt to threads round and round.

    `processes`: one a vCPU, `readers` for each, or with `one_vmm` one for all; `readers_apart`: those readers in one process
    beside them.
    """

    pages: int
    vcpus: int = 1
    readers: int = 1
    vcpu_cpus: tuple[int, ...] = ()
    reader_cpus: tuple[int, ...] = ()
    processes: bool = False
    readers_apart: bool = False
    one_vmm: bool = False
    order: str = "permutation"
    seed: int = 1

    def arguments(self, passes: int) -> list[str]:
        """The program's command line for `passes` passes, each waiting for its line."""
        values: dict[str, object] = {
            "--pages": self.pages,
            "--vcpus": self.vcpus,
            "--readers": self.readers,
            "--vcpu-cpus": ",".join(map(str, self.vcpu_cpus)),
            "--reader-cpus": ",".join(map(str, self.reader_cpus)),
            "--processes": int(self.processes),
            "--readers-apart": int(self.readers_apart),
            "--one-vmm": int(self.one_vmm),
            "--order": self.order,
            "--seed": self.seed,
            "--rearm": passes,
        }
        return [word for name, value in values.items() for word in (name, str(value))]


class Waiting:
    """A program that measures once for each line it is given. Use as a context manager: leaving it ends the program."""

    def __init__(self, program: Path, arguments: Sequence[str]) -> None:
        self._name = program.name
        self._process = subprocess.Popen(
            [str(program), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def measure(self) -> dict[str, Any]:
        """One measurement, as the program printed it. Raises RuntimeError when it ended or read a wrong word."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"{self._name} ended early, status {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        if found.get("wrong_words", 0):
            raise RuntimeError(f"{self._name} read {found['wrong_words']} wrong words")
        return found

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # the line it did not live to read
            self._process.stdin.close()
        self._process.stdout.close()
