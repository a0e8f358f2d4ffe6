"""What is left to run of a plan, and the plan itself as a dry run shows it."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from loadgen.errors import ConfigError
from loadgen.plan.plan import PlannedRun
from loadgen.sweep.resume import Rest, rest_of


def rest(cfg: DictConfig, runs: Sequence[PlannedRun], sweep_id: str) -> Rest:
    """What is left of the planned runs: all of them, or under `resume` those that are not in the data set."""
    keys = tuple(run.plan_key for run in runs)
    return rest_of(cfg.dataset, keys, sweep_id) if cfg.resume else Rest(sweep_id, tuple(range(len(runs))), planned=keys)


def dry_run(cfg: DictConfig, runs: Sequence[PlannedRun]) -> None:
    """Print the plan. Raises ConfigError for a data set that could not be written."""
    refuse_dataset(cfg.dataset)
    if cfg.json:
        from loadgen.show.json_events import planned_runs

        planned_runs(runs)
    else:
        from loadgen.show.dry_run import print_plan

        print_plan(runs)


def refuse_dataset(uri: str) -> None:
    """Raises ConfigError where no data set can be opened to write to; nothing is written."""
    from results.store.look import refuse

    try:
        refuse(uri)
    except Exception as error:
        from results.store.locations import DataSetError

        if not isinstance(error, DataSetError):
            raise
        raise ConfigError([f"dataset={uri}: {error}"]) from None
