"""`locality`: how local the faults of runs are, and what their pages have in common."""

from __future__ import annotations

import argparse

from results.commands.selection import add_dataset, add_selection, selected
from results.statistics.design import axes, value_of
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.locality import comparable, localities
from results.summaries.noise import flagged, noise
from results.summaries.prefetch import prefetched
from results.tables.console import print_notes, print_table
from results.tables.locality_table import locality_notes, locality_table, prefetch_notes


def add(parser: argparse.ArgumentParser) -> None:
    """DATASET, and which runs."""
    add_dataset(parser)
    add_selection(parser)
    parser.set_defaults(command=locality)


def locality(arguments: argparse.Namespace) -> int:
    """Read the faults of the runs asked for. Raises DataSetError when none can be looked at."""
    dataset = DataSet.existing(arguments.dataset)
    ok = [run for run in selected(dataset, arguments) if run["status"] == "ok"]
    kept = [run for run in ok if comparable(run)]
    if not kept:
        raise DataSetError(
            f"{dataset.uri}: none of {len(ok)} runs that are ok kept every fault of one guest: use a larger faults_limit, "
            "guests=1, and another strategy than null or eager"
        )
    varied = axes(kept, known=())
    named = {run["run_id"]: " ".join(f"{name}={value_of(run, name)}" for name in varied) or "-" for run in kept}
    named |= {run["run_id"]: f"{named[run['run_id']]} !" for run in kept if flagged([run])}
    found, overlap = localities(dataset, kept)
    print_table(locality_table(found, named))
    marked = ["!: the run is flagged"] if flagged(kept) else []
    noted = [*prefetch_notes(prefetched(dataset, run) for run in kept), *locality_notes(overlap, len(ok) - len(kept))]
    print_notes([*noted, *marked, *noise(kept)])
    return 0
