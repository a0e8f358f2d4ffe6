"""`compare`: which cells moved between two data sets, or between two values of a parameter."""

from __future__ import annotations

import argparse

from results.commands.selection import add_selection, parameter_and_value, selected
from results.figures import cell
from results.statistics.comparison import Cell, Comparison, Side, better, compare
from results.statistics.design import having
from results.statistics.intervals import LEVEL, coverage
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.tables.console import estimate, print_line, print_rows


def add(parser: argparse.ArgumentParser) -> None:
    """A, and B or --by."""
    parser.add_argument("a", metavar="A", help="a data set; with --by the only one")
    parser.add_argument("b", metavar="B", nargs="?", help="the data set that is compared with it")
    parser.add_argument("--by", metavar="PARAMETER=A,B", help="compare two values of a parameter within data set A")
    add_selection(parser)
    parser.add_argument("--value", metavar="COLUMN", default="pages_per_s", help="default: pages_per_s")
    parser.add_argument("--repeats", metavar="N", type=int, help="repeats that count (default: as many as were planned)")
    parser.add_argument("--across", metavar="FIELD,...", default="", help="fields in which A and B may differ, hosts' among them")
    parser.add_argument("--fail-above", metavar="PERCENT", type=float, help="exit with 1 if a cell got worse by more")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison; 1 when --fail-above says so."""
    across = tuple(name for name in arguments.across.split(",") if name)
    a, b, by = _sides(arguments)
    found = compare(a, b, arguments.value, by=by, across=across, repeats=arguments.repeats)
    _print(found)
    if arguments.fail_above is None:
        return 0
    failed = found.failed(arguments.fail_above / 100)
    for one in failed:
        where = " ".join(f"{axis}={cell(one.values[axis])}" for axis in found.axes)
        print_line(f"failed: {where + ': ' if where else ''}{one.undecided or f'{_change(one)}, B / A {estimate(one.ratio, 3)}'}")
    if not failed:
        print_line(f"no cell is worse by more than {arguments.fail_above:g}%")
    return 1 if failed else 0


def _sides(arguments: argparse.Namespace) -> tuple[Side, Side, str | None]:
    runs = selected(DataSet.existing(arguments.a), arguments)
    if (arguments.b is None) == (arguments.by is None):
        raise DataSetError("compare takes two data sets, or one and --by PARAMETER=A,B")
    if arguments.by is None:
        other = selected(DataSet.existing(arguments.b), arguments)
        return Side(arguments.a, runs), Side(arguments.b, other), None
    parameter, values = parameter_and_value(arguments.by, "--by")
    pair = values.split(",")
    if len(pair) != 2:
        raise DataSetError(f"--by {arguments.by}: give two values, as in --by strategy=uffd_wait,no_uffd_wait")
    a, b = (Side(f"{parameter}={value}", having(runs, parameter, value)) for value in pair)
    return a, b, parameter


def _print(found: Comparison) -> None:
    how = "ratios within each repeat" if found.paired else "ratio of medians: the two were not run beside each other"
    print_line(f"{found.value}: A is {found.a}, B is {found.b}; {found.repeats} repeats a cell, fixed before looking; {how}")
    heads = (*(axis.replace("_", " ") for axis in found.axes), "A", "B", "B / A", "verdict")
    rows = []
    for one in found.cells:
        verdict = one.undecided or ("moved" if one.moved else "equal")
        if one.moved and one.worse is not None:
            verdict = f"{'worse' if one.worse else 'better'}: {_change(one)}"
        rows.append((*(cell(one.values[axis]) for axis in found.axes), cell(one.a), cell(one.b), estimate(one.ratio, 3), verdict))
    print_rows(heads if found.axes else ("", *heads), rows if found.axes else [("all", *row) for row in rows])
    judged = sum(not one.undecided for one in found.cells)
    moved = sum(one.moved for one in found.cells)
    direction = f" ({better(found.value)} is better)" if better(found.value) else ""
    print_line(f"{moved} of {judged} cells moved{direction}; if nothing had, {found.by_chance:.1f} would seem to")
    if coverage(found.repeats) < LEVEL:
        promised = f"{found.repeats} repeats promise {coverage(found.repeats):.0%}"
        print_line(f"{promised}; 6 or more would promise {LEVEL:.0%}, and seem to move fewer")
    for name, count in (("A", found.only_a), ("B", found.only_b)):
        if count:
            print_line(f"{count} configurations are in {name} only")


def _change(one: Cell) -> str:
    """A change in percent, or as a multiple from double on."""
    return f"{one.change:+.1%}" if one.change < 1 else f"{one.change + 1:.3g} times"
