"""Going on where a sweep stopped: which of its planned runs are in the data set already, and which are left.

A run is recognised by its plan key (`loadgen.plan.plan.plan_key`). What ended in whatever way is finished, a run that Ctrl-C cut
short is not. The rest joins the sweep that was stopped, so that the data set holds the runs of one that was not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loadgen.errors import ConfigError


@dataclass(frozen=True)
class Rest:
    """What is left of a sweep: its id, the numbers of the planned runs to make, in their order, and the number that the first
    of them has in the sweep; `stored`: how many are there already; `planned`: the plan keys of all."""

    sweep_id: str
    left: tuple[int, ...]
    first_number: int = 0
    stored: int = 0
    planned: tuple[str, ...] = field(default=(), compare=False)


def rest_of(uri: str, keys: Sequence[str], sweep_id: str) -> Rest:
    """What is left of the plan whose runs have these plan keys, by the newest sweep in the data set at `uri` that has any of
    them. All of it, under `sweep_id`, when there is no such sweep. Raises ConfigError for a data set that cannot be read."""
    from results.store.dataset import DataSet
    from results.store.locations import DataSetError, NoDataSet

    everything = Rest(sweep_id, tuple(range(len(keys))), planned=tuple(keys))
    try:
        dataset = DataSet.existing(uri)
    except NoDataSet:
        return everything
    except DataSetError as error:
        raise ConfigError([f"resume=true: {error}"]) from None
    if torn := [path for stored in dataset.sweeps() for path in dataset.torn(stored)]:
        raise ConfigError([_torn(path) for path in torn])
    rows = dataset.read("runs", ["sweep_id", "run_id", "status", "plan_key"]).to_pylist()
    stopped = max((row["sweep_id"] for row in rows if row["plan_key"] in set(keys)), default=None)
    if stopped is None:
        return everything
    of_it = [row for row in rows if row["sweep_id"] == stopped]
    done = Counter(row["plan_key"] for row in of_it if row["status"] != "interrupted")
    left = tuple(_not_done(keys, done))
    return Rest(stopped, left, 1 + max(_number(row["run_id"]) for row in of_it), len(keys) - len(left), tuple(keys))


def _torn(path: str) -> str:
    run_id = path.rpartition("/")[2].removesuffix(".parquet")
    sweep = path.rpartition("/")[0].rpartition("/")[2]
    return (
        f"resume=true: {path} is torn (no complete Parquet file), so what is left of the sweep is not known: move the files of "
        f"this run, */{sweep}/{run_id}.parquet, out of the data set and it is measured again, or use resume=false"
    )


def _not_done(keys: Iterable[str], done: Counter[str]) -> Iterable[int]:
    for number, key in enumerate(keys):
        if done[key] > 0:  # the same configuration may have been asked for more than once
            done[key] -= 1
        else:
            yield number


def _number(run_id: str) -> int:
    """A run's number in its sweep, by its id."""
    return int(run_id.rpartition("-")[2])
