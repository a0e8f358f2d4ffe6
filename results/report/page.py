"""The HTML file: its parts in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from results.report import crossovers, distribution, handlers, locality, outcomes, scaling, stage_bars
from results.report.environment import commands, doubts, environment
from results.report.in_short import in_short
from results.report.subject import Panel, Subject
from results.statistics.design import Row
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.fault_digest import FaultDigest, digests
from results.summaries.summary import summarise
from results.tables.fault_tables import grouped_digests
from results.tables.layout import Table, constant, is_number
from results.tables.summary_table import notes, summary_table
from results.verify.verification import verify

Say = Callable[[str], None]


def html(dataset: DataSet, runs: Sequence[Row], say: Say = lambda text: None) -> str:
    """The report on rows of `runs`. Raises DataSetError when none of them is ok. `say`: called with each step."""
    ok = [run for run in runs if run["status"] == "ok"]
    if not ok:
        raise DataSetError(f"{dataset.uri}: none of {len(runs)} runs is ok, so there is nothing to report; `show` lists them")
    subject = Subject(ok)
    summed = summarise(runs)
    alike, table = constant(summary_table(summed, wide=True))
    say(f"reading the faults of {len(ok)} runs")
    panels = list(_faults(dataset, subject))
    say("drawing")
    plots = [
        *scaling.plots(subject),
        *crossovers.plots(subject),
        *distribution.plots(subject, panels),
        *stage_bars.plots(subject, panels),
        *outcomes.plots(subject, panels),
        *locality.plots(dataset, subject),
    ]
    return _render(
        dataset=dataset.uri,
        written=datetime.now(UTC),
        began=min((run["started_at"] for run in ok if run["started_at"]), default=None),
        ended=max((run["started_at"] for run in ok if run["started_at"]), default=None),
        runs=len(runs),
        sweeps=sorted({run["sweep_id"] for run in runs}),
        faults=sum(run["fault_records"] or 0 for run in ok),
        doubts=[*_unverified(dataset), *doubts(runs)],
        in_short=list(in_short(subject)),
        summary=table,
        alike=alike,
        notes=list(notes(summed)),
        not_counted=summed.not_counted,
        plots=plots,
        handlers=handlers.section(dataset, ok),
        environment=environment(ok),
        commands=commands(ok),
    )


def _unverified(dataset: DataSet) -> Iterator[str]:
    """That the data set does not verify, and the first reasons."""
    first = list(islice(verify(dataset), 3))
    if first:
        reasons = "; ".join(f"{one.run_id}: {one.what}" if one.run_id else one.what for one in first)
        yield f"This data set does not verify: {reasons}. `loadgen-report verify` lists every disagreement."


def _faults(dataset: DataSet, subject: Subject) -> Iterator[tuple[Panel, dict[tuple[str, str], FaultDigest]]]:
    """Digests by series and kind of each configuration that is shown, read in one pass."""
    shown = subject.ends()
    place = {run["run_id"]: number for number, panel in enumerate(shown) for run in panel.runs}
    runs = [{**run, "_panel": place[run["run_id"]]} for panel in shown for run in panel.runs]
    groups = grouped_digests(runs, digests(dataset, runs), ("_panel", *subject.series_by))
    for number, panel in enumerate(shown):
        mine = {
            (subject.named(values[1:]), kind): digest for (values, kind), digest in groups.digests.items() if values[0] == number
        }
        if mine:
            yield panel, mine


def _render(**values: Any) -> str:
    loader = Environment(
        loader=PackageLoader("results.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return loader.get_template("page.html").render(numbers=_numbers, **values)


def _numbers(table: Table) -> list[bool]:
    """Which columns hold numbers, and are aligned to the right."""
    return [all(is_number(row[number]) for row in table.rows) for number in range(len(table.heads))]
