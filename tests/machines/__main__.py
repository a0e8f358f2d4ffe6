"""`make machines`: boots the emulated machines, as many at a time as there are CPUs, runs tests on them, prints one table.

Usage: `python -m tests.machines [--only NAME]... [--tests WORDS]`. Exit status 1 when a test failed, or a machine did; 130 after
Ctrl-C, which ends the emulators too.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from results.tables.console import print_line, print_rows
from tests.machines.boot import Outcome, run
from tests.machines.machine import MACHINES, Machine
from tests.machines.together import together

HEADS = ("machine", "kernel", "passed", "failed", "skipped", "seconds", "CPU s")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.machines")
    names = [machine.name for machine in MACHINES]
    parser.add_argument("--only", action="append", choices=names, help="this machine; may be given several times")
    parser.add_argument("--tests", default="", help="native tests whose name holds these words")
    asked = parser.parse_args()
    machines = [machine for machine in MACHINES if not asked.only or machine.name in asked.only]
    began = time.monotonic()
    outcomes = {}
    try:
        for outcome in together(machines, len(os.sched_getaffinity(0)), lambda machine: boot(machine, asked.tests)):
            tell(outcome)
            outcomes[outcome.machine] = outcome
    except KeyboardInterrupt:
        return 130
    in_order = [outcomes[machine.name] for machine in machines]
    print()
    print_rows(HEADS, [*map(row, in_order), total(in_order, time.monotonic() - began)])
    return 0 if all(outcome.good for outcome in in_order) else 1


def boot(machine: Machine, tests: str) -> Outcome:
    """Begins with a line, for the next one may be minutes away."""
    print(f"{machine.name}: {machine.summary}", flush=True)
    return run(machine, tests)


def tell(outcome: Outcome) -> None:
    """How it ended, what failed and what was skipped, as soon as it is known."""
    lines = [f"{outcome.passed} passed, {outcome.failed} failed, {outcome.seconds:.0f} s", *filter(None, outcome.failures)]
    lines += [f"{count} skipped: {reason}" for reason, count in outcome.skipped.items()]
    for line in lines:
        print_line(f"{outcome.machine}: {line}")
    sys.stdout.flush()


def row(outcome: Outcome) -> tuple[str, ...]:
    """Its line of the table."""
    counts = (outcome.passed, outcome.failed, sum(outcome.skipped.values()))
    return (outcome.machine, outcome.kernel or "-", *map(str, counts), f"{outcome.seconds:.0f}", f"{outcome.cpu_s:.0f}")


def total(outcomes: list[Outcome], seconds: float) -> tuple[str, ...]:
    """The last line: sums, but the seconds of all together, with what was built and downloaded."""
    sums = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("passed", "failed"))
    skipped = sum(sum(outcome.skipped.values()) for outcome in outcomes)
    return ("all", "-", *map(str, sums), str(skipped), f"{seconds:.0f}", f"{sum(outcome.cpu_s for outcome in outcomes):.0f}")


if __name__ == "__main__":
    raise SystemExit(main())
