"""`dry_run=true`: the plan as a table, and nothing started."""

from __future__ import annotations

from collections.abc import Sequence

from loadgen.plan.plan import MIB, PlannedRun
from loadgen.show.progress import title
from results.tables.console import print_rows


def print_plan(runs: Sequence[PlannedRun]) -> None:
    """Runs in the order they would be made, with seeds, pinning, memory needed and time estimated."""
    print_rows(
        ("run", "what", "seed", "vCPUs on CPUs", "readers on CPUs", "MiB", "about s"),
        [
            (
                run.spec.run_id,
                title(run),
                str(run.spec.seed),
                _cpus(run.spec.placement.vcpu_cpus),
                _cpus(run.spec.placement.reader_cpus),
                f"{run.memory_bytes / MIB:.0f}",
                f"{run.estimated_s:.1f}",
            )
            for run in runs
        ],
    )
    total_s = sum(run.estimated_s for run in runs)
    print(
        f"{len(runs)} runs, about {total_s:.0f} s and {max(run.memory_bytes for run in runs) / MIB:.0f} MiB; nothing was started"
    )


def _cpus(cpus: Sequence[Sequence[int]]) -> str:
    shown = [",".join(map(str, one)) for one in cpus[:8]]
    return " ".join(shown) + (" ..." if len(cpus) > len(shown) else "")
