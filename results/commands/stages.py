"""`stages`: where the time of a fault goes, by strategy and kind."""

from __future__ import annotations

import argparse

from results.commands.selection import add_dataset, add_selection, selected
from results.derive.stages import EXTERNAL
from results.statistics.design import differing, value_of
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.noise import noise
from results.tables.console import print_line
from results.tables.fault_tables import fault_groups, print_stages


def add(parser: argparse.ArgumentParser) -> None:
    """DATASET, which runs, and how to group them."""
    add_dataset(parser)
    add_selection(parser)
    parser.add_argument(
        "--by",
        metavar="PARAMETER,...",
        help="group by these besides the kind of fault (default: strategy and everything that was varied)",
    )
    parser.set_defaults(command=stages)


def stages(arguments: argparse.Namespace) -> int:
    """Read every fault of the runs asked for. Raises DataSetError when there is none."""
    dataset = DataSet.existing(arguments.dataset)
    ok = [run for run in selected(dataset, arguments) if run["status"] == "ok"]
    by = tuple(arguments.by.split(",")) if arguments.by else None
    if not any(run["fault_records"] for run in ok):
        raise DataSetError(
            f"{dataset.uri}: none of {len(ok)} runs that are ok has fault records, which stages are computed from; "
            "faults_limit=0 keeps none, and under strategy=null no access faults"
        )
    groups = fault_groups(dataset, ok, by)
    print_stages(groups)
    mixed = differing(ok, groups.by)
    if mixed:
        print_line(f"rows mix runs that differ in: {', '.join(mixed)}")
    if any(run["page_server"] == "external" for run in ok):
        print_line(EXTERNAL)
    for line in noise(ok):
        print_line(line)
    sampled = sorted({value_of(run, "sample_every") for run in ok} - {None, 1})
    if sampled:
        print_line(f"of some runs only every {sampled[-1]}th fault was stored")
    return 0
