"""Where the time of a fault goes, as stacked bars: of all faults, and of the slowest hundredth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from results.derive.stages import EXTERNAL, MEANING, PARTS
from results.figures import us
from results.report.drawing import HATCHES, Plot, Sheet, Table, sheet, style
from results.report.subject import MOST_PANELS, Panel, Subject, left_out
from results.summaries.fault_digest import PER_MILLE, FaultDigest

COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7")

Digests = Mapping[tuple[str, str], FaultDigest]


def plots(subject: Subject, panels: Sequence[tuple[Panel, Digests]]) -> list[Plot]:
    """One plot with two panels for each configuration."""
    shown = [(panel, digests) for panel, digests in panels[: MOST_PANELS // 2] if any(one.finished for one in digests.values())]
    if not shown:
        return []
    most = max(len(digests) for _, digests in shown)
    drawn = sheet("stages", 2 * len(shown), height=1.1 + 0.26 * most)
    for number, (panel, digests) in enumerate(shown):
        series = subject.series(panel.runs)
        bars = {
            f"{subject.marked(name, series.get(name, ()))}, {kind}": one for (name, kind), one in digests.items() if one.finished
        }
        _draw(
            drawn, 2 * number, f"{panel.title}: mean fault".removeprefix(": "), {k: one.mean_part_ns for k, one in bars.items()}
        )
        slow = {k: one.mean_slow_part_ns for k, one in bars.items() if one.slow}
        _draw(drawn, 2 * number + 1, "the slowest hundredth of them", slow)
    return [
        Plot(
            name="stages",
            title="Stages: where the time of a fault goes",
            caption="; ".join(f"{part}: {MEANING[part]}" for part in PARTS)
            + ". Means, so that the parts sum to the mean latency, which is at the end of each bar. Percentiles in the table: of "
            "the median run (exact, of each run's faults, then the median over runs) and pooled (all runs' faults together, at "
            "most 1.6 % too high); p99.9 from 10,000 faults on."
            + subject.left_out_between()
            + (left_out([one for one, _ in panels]) if len(panels) > MOST_PANELS else ""),
            svg=drawn.svg(),
            series=drawn.series,
            table=_table(subject, shown),
            notes=[EXTERNAL] if any(run.get("page_server") == "external" for panel, _ in shown for run in panel.runs) else [],
        )
    ]


def _draw(drawn: Sheet, number: int, heading: str, bars: Mapping[str, Sequence[float]]) -> None:
    axes = drawn.panels[number]
    with style():
        left = [0.0] * len(bars)
        for part, name in enumerate(PARTS):
            lengths = [ns[part] / 1e3 for ns in bars.values()]
            group = axes.barh(
                list(bars), lengths, left=left, color=COLOURS[part], hatch=HATCHES[part], edgecolor="#333333", linewidth=0.4
            )
            if any(lengths):
                next(patch for patch, length in zip(group, lengths, strict=True) if length).set_gid(drawn.series_id())
            drawn.legend.setdefault(name, group)
            left = [begin + length for begin, length in zip(left, lengths, strict=True)]
        for place, total in enumerate(left):
            axes.text(total, place, f" {total:.1f}", va="center", fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.14)
        axes.grid(axis="y", visible=False)
        axes.set(title=heading, xlabel="us")


def _table(subject: Subject, shown: Sequence[tuple[Panel, Digests]]) -> Table:
    heads = (
        *("configuration", "strategy", "kind", "faults", *(f"{part} us" for part in PARTS)),
        *("mean us", *(f"{name} us, {how}" for how in ("median run", "pooled") for name in ("p50", "p99", "p99.9"))),
        "slowest 1 % us",
    )
    rows = []
    for panel, digests in shown:
        series = subject.series(panel.runs)
        for (name, kind), one in digests.items():
            mean = one.mean_part_ns
            percentiles = (us(of(rank)) for of in (one.exact_median, one.pooled) for rank in PER_MILLE)
            rows.append(
                (
                    *(panel.title, subject.marked(name, series.get(name, ())), kind, str(one.faults), *map(us, mean)),
                    *(us(sum(mean)), *percentiles, us(sum(one.mean_slow_part_ns))),
                )
            )
    return Table(heads, rows)
