"""`make machines`: boots each emulated machine, runs the native tests on it, prints one table.

Usage: `python -m tests.machines [--only NAME]... [--tests WORDS]`. Exit status 1 when a test failed, or a machine did.
"""

from __future__ import annotations

import argparse
import sys

from results.tables.console import print_rows
from tests.machines.boot import Outcome, run
from tests.machines.machine import MACHINES


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.machines")
    names = [machine.name for machine in MACHINES]
    parser.add_argument("--only", action="append", choices=names, help="this machine; may be given several times")
    parser.add_argument("--tests", default="", help="native tests whose name holds these words")
    asked = parser.parse_args()
    outcomes = []
    for machine in MACHINES:
        if asked.only and machine.name not in asked.only:
            continue
        outcome = run(machine, asked.tests)
        tell(outcome)
        outcomes.append(outcome)
    print()
    print_rows(("machine", "kernel", "passed", "failed", "skipped", "seconds", "CPU s"), [row(outcome) for outcome in outcomes])
    return 0 if all(outcome.good for outcome in outcomes) else 1


def tell(outcome: Outcome) -> None:
    """What failed and what was skipped, as soon as it is known."""
    for line in filter(None, outcome.failures):
        print(f"{outcome.machine}: {line}")
    for reason, count in outcome.skipped.items():
        print(f"{outcome.machine}: {count} skipped: {reason}")
    sys.stdout.flush()


def row(outcome: Outcome) -> tuple[str, ...]:
    """Its line of the table."""
    counts = (outcome.passed, outcome.failed, sum(outcome.skipped.values()))
    return (outcome.machine, outcome.kernel or "-", *map(str, counts), f"{outcome.seconds:.0f}", f"{outcome.cpu_s:.0f}")


if __name__ == "__main__":
    raise SystemExit(main())
