"""The measures of this project, printed as one table: `python -m tests.bench.bench` (what `make bench` runs).

Against bare loops in interleaved pairs; "met" says that the 95 % interval reaches the bar. Nothing here is a test: a
measure that is not met is printed, not raised.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.bench import (
    cases_kvm,
    cases_net,
    cases_paging,
    cases_peer,
    cases_rig,
    cases_serve,
    cases_size,
    cases_source,
    cases_start,
    cases_store,
    cases_swapped,
)
from tests.bench.lines import Asked, Case, Line, table

CASES: dict[str, Case] = {
    **cases_paging.CASES,
    **cases_swapped.CASES,
    **cases_net.CASES,
    **cases_kvm.CASES,
    **cases_peer.CASES,
    **cases_size.CASES,
    **cases_store.CASES,
    **cases_rig.CASES,
    **cases_source.CASES,
    **cases_serve.CASES,
    **cases_start.CASES,
}

WIDTH = 180
"""Columns of the table where there is no terminal."""

BUSY = 0.5
"""Load average above which other processes are at work."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=31, help="interleaved pairs of each comparison (default 31)")
    parser.add_argument("--seconds", type=float, default=0.3, help="least measured time of a side (default 0.3)")
    parser.add_argument("--quick", action="store_true", help="few short pairs and small sizes: a look, not a result")
    parser.add_argument("--only", action="append", choices=CASES, metavar="NAME", help=f"one of {', '.join(CASES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the lines there too")
    return parser.parse_args(arguments)


def run(names: Sequence[str], asked: Asked, console: Console) -> list[Line]:
    """Every case by name, each line printed as it is there; a case that fails becomes a line that is not met."""
    lines: list[Line] = []
    for name in names:
        try:
            for line in CASES[name](asked):
                console.print(f"{line.case}: {line.measure}: {line.value} {line.note}", highlight=False, markup=False)
                lines.append(line)
        except Exception as error:  # whatever it was, the other cases are measured
            said = f"{type(error).__name__}: {error}"
            console.print(f"{name}: {said}", style="red", markup=False)
            lines.append(Line(name, "failed", "", met=False, note=said.strip().splitlines()[-1]))
    return lines


def verdict(lines: Sequence[Line], seconds: float) -> str:
    """The last line: how many bars were met, which were not, and how long it took."""
    barred = [line for line in lines if line.met is not None]
    missed = [f"{line.case} ({line.measure}: {line.value}, {line.bar})" for line in barred if not line.met]
    said = f"{len(barred) - len(missed)} of {len(barred)} bars met in {seconds / 60:.1f} minutes"
    return f"{said}; not met: {'; '.join(missed)}" if missed else said


def main() -> int:
    """Run what was asked; 0 when every bar was met, 1 otherwise."""
    arguments = parse()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if os.getloadavg()[0] > BUSY:
        console.print(f"this machine is busy (load {os.getloadavg()[0]:.1f}): the intervals will be wide", style="yellow")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="uffd-loadgen-bench-") as build:
        asked = Asked(
            pairs=5 if arguments.quick else arguments.pairs,
            seconds=0.1 if arguments.quick else arguments.seconds,
            quick=arguments.quick,
            build=Path(build),
        )
        lines = run(arguments.only or list(CASES), asked, console)
    console.print(table(lines))
    console.print(verdict(lines, time.monotonic() - began), highlight=False, markup=False)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([line.as_json() for line in lines], indent=2) + "\n")
    return 1 if any(line.met is False for line in lines) else 0


if __name__ == "__main__":
    raise SystemExit(main())
