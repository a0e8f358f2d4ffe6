"""`trace`: a run's faults in their order, as access=trace replays them."""

from __future__ import annotations

import argparse
import sys

from results.commands.selection import add_dataset
from results.store.dataset import DataSet
from results.store.trace_file import write_trace
from results.summaries.trace import trace_of


def add(parser: argparse.ArgumentParser) -> None:
    """--run, --round, --out and DATASET."""
    parser.add_argument("--run", metavar="ID", required=True, help="a run, or a served VMM, that kept all its faults")
    parser.add_argument("--round", metavar="N", type=int, default=0, help="round of the run (default 0)")
    parser.add_argument("--out", metavar="FILE", required=True, help="Parquet: time_ns, page, write, vcpu")
    add_dataset(parser)
    parser.set_defaults(command=write)


def write(arguments: argparse.Namespace) -> int:
    """Write the file; how much it holds goes to standard error."""
    trace = trace_of(DataSet.existing(arguments.dataset), arguments.run, arguments.round)
    write_trace(arguments.out, trace)
    print(
        f"{len(trace)} faults of {trace.vcpus} vCPUs in {trace.span_ns / 1e9:.3f} s of run {arguments.run} in {arguments.out}",
        file=sys.stderr,
    )
    return 0
