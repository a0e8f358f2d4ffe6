"""The remote source over loopback, against a bare request loop: at least 0.8 of its pages a second."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench.bare import COMPILE, HERE, compile_bare
from tests.bench.lines import Asked, Line
from tests.bench.pairs import interleave, interval, ratios

BAR = 0.8
DEPTHS = (1, 32)
PAGES = {1: 4096, 32: 32_768}
NATIVE = HERE.parents[1] / "workers" / "native"


def compile_ours(into: Path) -> Path:
    """The program that asks through the core. Raises RuntimeError with the compiler's own words."""
    program = into / "our_requests"
    if program.exists():
        return program
    core = sorted(one for room in ("kernel", "guest", "source") for one in (NATIVE / room).glob("*.cpp"))
    warnings = [option for option in COMPILE if option != "-Werror"]
    command = [*warnings, "-w", f"-I{NATIVE}", str(HERE / "our_requests.cpp"), *map(str, core), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"our_requests.cpp does not compile:\n{done.stderr}")
    return program


class Requests:
    """One of the two programs, waiting between passes."""

    def __init__(self, program: Path, depth: int, pages: int) -> None:
        self._process = subprocess.Popen(
            [str(program), str(depth), str(pages)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Requests:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def pages_per_s(self) -> float:
        """Of one pass."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def remote_source(asked: Asked) -> Iterator[Line]:
    """Pages a second at each depth."""
    ours, bare = compile_ours(asked.build), compile_bare("bare_requests", asked.build)
    for depth in DEPTHS:
        with ExitStack() as stack:
            mine, theirs = (stack.enter_context(Requests(program, depth, PAGES[depth])) for program in (ours, bare))
            found, reference = interleave(mine.pages_per_s, theirs.pages_per_s, asked.pairs)
        share = interval(ratios(found, reference))
        yield Line(
            "source",
            f"remote source over loopback, depth {depth}",
            str(share),
            f"{BAR} of a bare request loop",
            share.reaches(BAR),
            f"{interval(found).median / 1e3:.0f} of {interval(reference).median / 1e3:.0f} kpages/s",
        )


CASES = {"source": remote_source}
