"""`compare`: which cells differ between two data sets, or between two values of a parameter."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from results.commands.selection import add_selection, parameter_and_value, selected
from results.figures import cell
from results.statistics.comparison import HOST_FIELDS, Cell, Comparison, Side, better, compare
from results.statistics.design import checked, having
from results.statistics.significance import ALPHA
from results.statistics.verdicts import INCONCLUSIVE, MARGIN, NO_DIFFERENCE, WORDS, figures, percent
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.tables.console import print_line, print_notes, print_rows

NOT_JUDGED = 3
"""Exit status of `--fail-above` when no cell failed and one cannot be judged."""


def add(parser: argparse.ArgumentParser) -> None:
    """A, and B or --by."""
    parser.add_argument("a", metavar="A", help="a data set; with --by the only one")
    parser.add_argument("b", metavar="B", nargs="?", help="the data set that is compared with it")
    parser.add_argument("--by", metavar="PARAMETER=A,B", help="compare two values of a parameter within data set A")
    add_selection(parser)
    parser.add_argument("--value", metavar="COLUMN", default="pages_per_s", help="default: pages_per_s")
    parser.add_argument("--repeats", metavar="N", type=int, help="repeats that count (default: as many as were planned)")
    parser.add_argument("--across", metavar="FIELD,...", default="", help="fields in which A and B may differ, hosts' among them")
    parser.add_argument(
        "--margin", metavar="PERCENT", type=float, help=f"a change within it is no difference (default: {MARGIN:.0%}%)"
    )
    parser.add_argument(
        "--fail-above",
        metavar="PERCENT",
        type=float,
        help=f"exit with 1 if a cell is worse by more (or differs by more, where no direction is better), with {NOT_JUDGED} if a "
        "cell cannot be judged: most of one side's runs are flagged as noisy, or so few repeats can show no difference",
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison. Under --fail-above: 1 when a cell failed, else NOT_JUDGED when one cannot be judged."""
    across = tuple(name for name in arguments.across.split(",") if name)
    margin = _margin(arguments)
    if arguments.repeats is not None and arguments.repeats < 1:
        raise DataSetError(f"--repeats {arguments.repeats}: give at least 1")
    a, b, by = _sides(arguments)
    for name in across:
        if name not in HOST_FIELDS:
            checked([*a.runs, *b.runs], name, "--across")
    found = compare(a, b, arguments.value, by=by, across=across, repeats=arguments.repeats, margin=margin)
    limit = None if arguments.fail_above is None else arguments.fail_above / 100
    _print(found, () if limit is None else (limit,))
    return 0 if limit is None else _gate(found, limit)


def _gate(found: Comparison, limit: float) -> int:
    """Print what failed and what is not judged; the exit status."""
    failed, refused = found.failed(limit), found.refused()
    for one in failed:
        print_line(f"failed: {_where(found, one)}{one.undecided or f'{_change(one, limit)}, B / A {_figures(found, one)}'}")
    for one in refused:
        print_line(f"not judged: {_where(found, one)}{_why_refused(found, one)}")
    if not failed and not refused:
        print_line(f"no cell is {'worse' if better(found.value) else 'higher or lower'} by more than {100 * limit:g}%")
    return 1 if failed else NOT_JUDGED if refused else 0


def _why_refused(found: Comparison, one: Cell) -> str:
    if one.flagged > 0.5:
        return f"{one.flagged:.0%} of one side's runs are flagged as noisy; see `loadgen-report show`, and run them again"
    return f"{found.repeats} repeats can show no difference of {_cells(len(found.judged))}: it takes {found.needed}"


def _margin(arguments: argparse.Namespace) -> float:
    """In parts. Raises DataSetError for one that is no share, or that hides what --fail-above is to find."""
    limit, margin = arguments.fail_above, arguments.margin
    for name, value in (("--fail-above", limit), ("--margin", margin)):
        if value is not None and not 0 <= value < 1000:
            raise DataSetError(f"{name} {value:g}: give a percentage from 0 to 1000")
    if margin is None:
        return MARGIN if limit is None else min(MARGIN, limit / 100)
    if limit is not None and margin > limit:
        raise DataSetError(
            f"--margin {margin:g} is above --fail-above {limit:g}: a cell could be worse by more and no difference"
        )
    return float(margin / 100)


def _sides(arguments: argparse.Namespace) -> tuple[Side, Side, str | None]:
    columns = (arguments.value, *HOST_FIELDS, *arguments.across.split(","), (arguments.by or "").partition("=")[0])
    runs = selected(DataSet.existing(arguments.a), arguments, *columns)
    if (arguments.b is None) == (arguments.by is None):
        raise DataSetError("compare takes two data sets, or one and --by PARAMETER=A,B")
    if arguments.by is None:
        other = selected(DataSet.existing(arguments.b), arguments, *columns)
        return Side(arguments.a, runs), Side(arguments.b, other), None
    parameter, values = parameter_and_value(arguments.by, "--by")
    pair = values.split(",")
    if len(pair) != 2:
        raise DataSetError(f"--by {arguments.by}: give two values, as in --by strategy=uffd_wait,no_uffd_wait")
    if pair[0] == pair[1]:
        raise DataSetError(f"--by {arguments.by}: both values are {pair[0]}; give two different ones")
    a, b = (Side(f"{parameter}={value}", having(runs, parameter, value)) for value in pair)
    return a, b, parameter


def _print(found: Comparison, limits: tuple[float, ...]) -> None:
    how = "ratios within each repeat" if found.paired else "ratio of medians: the two were not run beside each other"
    print_line(f"{found.value}: A is {found.a}, B is {found.b}; {found.repeats} repeats a cell, fixed before looking; {how}")
    heads = (*(axis.replace("_", " ") for axis in found.axes), "A", "B", "B / A", "verdict", "could show")
    rows = []
    for one in found.cells:
        shown = "-" if one.least is None or found.repeats < found.needed else f"{one.least:.1%}"
        where = (cell(one.values[axis]) for axis in found.axes)
        rows.append((*where, cell(one.a), cell(one.b), _figures(found, one), _verdict(one, limits), shown))
    rows = rows if found.axes else [("all", *row) for row in rows]
    print_rows(heads if found.axes else ("", *heads), rows, keys=max(1, len(found.axes)))
    print_notes(_notes(found))


def _notes(found: Comparison) -> Iterator[str]:
    """What the verdicts and intervals hold."""
    judged = found.judged
    counts = [(sum(one.verdict == word for one in judged), word) for word in WORDS]
    direction = f" ({better(found.value)} is better)" if better(found.value) else ""
    yield f"{', '.join(f'{count} {word}' for count, word in counts if count) or 'nothing'} of {_cells(len(judged))}{direction}"
    if judged:
        least = min(one.ratio.coverage for one in judged if one.ratio)
        many = f", corrected for {len(judged)} cells (Holm)" if len(judged) > 1 else ""
        yield (
            f"exact tests{many}: where nothing has changed, at most {ALPHA:.0%} of comparisons name a cell better or worse; "
            f"intervals: {least:.1%} coverage at {found.repeats} repeats"
        )
        yield f"no difference: the interval lies within {found.margin:.4g} of 1, judged cell by cell"
    if judged and found.repeats < found.needed:
        yield f"{found.repeats} repeats can show no difference of {_cells(len(judged))}, however large: it takes {found.needed}"
    elif judged:
        yield "could show: the smallest change that so many repeats of this spread would have shown"
    flagged = sum(one.flagged > 0 for one in found.cells)
    if flagged:
        yield f"{_cells(flagged)} with runs flagged as noisy: marked with *"
    for name, count in (("A", found.only_a), ("B", found.only_b)):
        if count:
            yield f"{count} configurations are in {name} only"


def _cells(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"


def _where(found: Comparison, one: Cell) -> str:
    where = " ".join(f"{axis}={cell(one.values[axis])}" for axis in found.axes)
    return f"{where}: " if where else ""


def _verdict(one: Cell, limits: tuple[float, ...]) -> str:
    marked = "*" if one.flagged else ""
    if one.undecided:
        return f"not judged: {one.undecided}{marked}"
    moved = one.verdict not in (NO_DIFFERENCE, INCONCLUSIVE)
    return f"{one.verdict}: {_change(one, *limits)}{marked}" if moved else f"{one.verdict}{marked}"


def _figures(found: Comparison, one: Cell) -> str:
    return "-" if one.ratio is None else figures(one.ratio, 1 - found.margin, 1 + found.margin)


def _change(one: Cell, *limits: float) -> str:
    return percent(one.change, *limits, *(-limit for limit in limits))
