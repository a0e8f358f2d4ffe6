"""`dry_run=true`: the plan as a table; nothing is started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from loadgen.plan.plan import MIB, PlannedRun
from loadgen.show.time_left import SESSION_S, expected_s
from loadgen.show.title import words
from results.tables.console import print_line, print_rows

CPU_LISTS_SHOWN = 4


def print_plan(runs: Sequence[PlannedRun]) -> None:
    """Runs in the order they would be made, with seeds, pinning, memory needed and time expected. What is alike in all of them
    stands in one line above."""
    titles = [words(run) for run in runs]
    alike = [word for word in titles[0] if all(word in one for one in titles)] if len(runs) > 1 else []
    what = [" ".join(word for word in one if word not in alike) for one in titles]
    columns = {"what": what, **_columns(runs)}
    same = [f"{head} {cells[0]}" for head, cells in columns.items() if len(runs) > 1 and len(set(cells)) == 1 and cells[0]]
    shown = {head: cells for head, cells in columns.items() if len(runs) == 1 or len(set(cells)) > 1}
    if not runs:
        print("0 runs, about 0 s and 0 MiB; nothing was started")
        return
    if alike or same:
        print_line("all runs: " + ", ".join([" ".join(alike), *same]))
    print_rows(("run", *shown), [(str(number), *row) for number, row in enumerate(zip(*shown.values(), strict=True), 1)])
    for reason, having in Counter(run.spec.one_round for run in runs if run.spec.one_round).items():
        print_line(f"one round in {having} of {len(runs)} runs: {reason}" if len(runs) > 1 else f"one round: {reason}")
    total_s = SESSION_S + sum(expected_s(runs)) if runs else 0.0
    memory_mib = max((run.memory_bytes for run in runs), default=0) / MIB
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    print(f"{count}, about {total_s:.0f} s and {memory_mib:.0f} MiB; nothing was started")


def _columns(runs: Sequence[PlannedRun]) -> dict[str, list[str]]:
    specs = [run.spec for run in runs]
    return {
        "seed": [str(spec.seed) for spec in specs],
        "vCPU CPUs": [_cpus(spec.placement.vcpu_cpus) for spec in specs],
        "reader CPUs": [_cpus(spec.placement.reader_cpus) for spec in specs],
        "MiB": [f"{run.memory_bytes / MIB:.0f}" for run in runs],
        "s": [f"{seconds:.1f}" for seconds in expected_s(runs)],
    }


def _cpus(cpus: Sequence[Sequence[int]]) -> str:
    """CPUs of each thread; a dash for a thread that is not pinned."""
    shown = [",".join(map(str, one)) or "-" for one in cpus[:CPU_LISTS_SHOWN]]
    return " ".join(shown) + (" ..." if len(cpus) > len(shown) else "")
