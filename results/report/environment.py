"""Host, software and commands of the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from results.figures import cell
from results.report.drawing import Table
from results.statistics.design import Row
from results.summaries.noise import flagged, noise

FIELDS = (
    *("host", "kernel", "cpu_model", "host_cpus", "memory_bytes", "clock_source"),
    *("userfaultfd_way", "userfaultfd_features", "package_version", "commit"),
)

_MOST_VALUES = 8


def environment(runs: Sequence[Row]) -> Table:
    """Every field with its values; several where runs differ."""
    rows = [(field.replace("_", " "), _values(runs, field)) for field in FIELDS]
    exits = sorted({run["emulated_exit_ns"] for run in runs if run["emulated_exit_ns"] is not None})
    if exits:
        rows.append(("emulated exit, ns (calibrated)", f"{cell(exits[0], 3)} to {cell(exits[-1], 3)}"))
    return Table(("", "value"), rows)


def commands(runs: Sequence[Row]) -> list[str]:
    """The commands that repeat the sweeps, each once, in the order they were given."""
    ordered = sorted((run for run in runs if run["command"]), key=lambda run: str(run["started_at"]))
    return list(dict.fromkeys(run["command"] for run in ordered))


def doubts(runs: Sequence[Row]) -> Iterator[str]:
    """Reasons to doubt the data, in sentences: runs that are not ok, that are flagged as noisy, that were not judged, sampled."""
    bad = Counter(run["status"] for run in runs if run["status"] != "ok")
    if bad:
        statuses = ", ".join(f"{count} {status}" for status, count in bad.most_common())
        yield f"{bad.total()} of {len(runs)} runs are not ok and are in no figure: {statuses}."
    ok = [run for run in runs if run["status"] == "ok"]
    for line in noise(ok):
        yield f"{line[0].upper()}{line[1:]}."
    if flagged(ok):
        yield "A column noisy, or a mark ! after a name, stands beside figures of flagged runs."
    sampled = sum((run["sample_every"] or 1) > 1 for run in ok)
    if sampled:
        yield f"{sampled} runs stored only a sample of their faults: their latencies and stages are the sample's."


def _values(runs: Sequence[Row], field: str) -> str:
    values = list(dict.fromkeys(str(run[field]) for run in runs if run[field] is not None))
    more = f" and {len(values) - _MOST_VALUES} more" if len(values) > _MOST_VALUES else ""
    return (" | ".join(values[:_MOST_VALUES]) or "-") + more
