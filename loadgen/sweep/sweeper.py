"""A thin sweeper on Hydra's basic one: every job is composed, validated and planned before the first starts, in the order of
`loadgen.sweep.plan_runs.in_order`. Launchers are Hydra's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig

from loadgen.config.command_line import as_override, command, given, quote_null
from loadgen.config.schema import SET_BY_THE_DRIVER
from loadgen.config.validate import measurement, validate_cells
from loadgen.errors import ConfigError
from loadgen.plan.guests_over_hosts import plan_guests
from loadgen.plan.plan import PlannedRun
from loadgen.sweep.compose_cache import Composed, repeated
from loadgen.sweep.plan_runs import (
    MOST_CELLS,
    Hosts,
    counted,
    hosts_for,
    in_order,
    new_sweep_id,
    refuse_endless,
    validate_on,
)
from loadgen.sweep.plan_shown import dry_run, rest
from loadgen.sweep.resume import Rest
from loadgen.sweep.set_apart import key_of, set_apart

if TYPE_CHECKING:
    from loadgen.cluster.cluster import Cluster

# The scan loads the core plugins' modules anew, so classes imported from them before it are strangers to those after it.
_PLUGINS = Plugins.instance()

from hydra._internal.core_plugins.basic_launcher import BasicLauncher  # noqa: E402
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: E402

PLUGIN_MODULE = "hydra_plugins.uffd_loadgen"
"""Hydra takes plugins from the package hydra_plugins only, and a namespace package is not served by every kind of editable
install: this module is known by that name too, and its class registered by hand."""

ONE_OF_A_SWEEP = {"dataset": "is one data set", "cluster": "runs on one cluster"}
"""Keys that cannot be swept over, and why."""

MOST_PROBLEMS = 20
"""Refused at once; more would be no help."""

FIXED = "!"
"""Begins a key of `also` that the command line does not change."""

Cell = tuple[list[str], dict[str, Any]]
"""A combination: its overrides and the plain values of its configuration."""


def register_sweeper() -> None:
    """Make the sweeper known to Hydra."""
    try:
        package = importlib.import_module("hydra_plugins")
    except ImportError:
        package = sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
    here = sys.modules[__name__]
    sys.modules[PLUGIN_MODULE] = here
    vars(package)["uffd_loadgen"] = here
    _PLUGINS.register(LoadgenSweeper)


class Forget(Callback):
    """Hydra's launcher returns every job with its whole configuration: what a sweep keeps must not grow with its runs."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """The configuration is in the run's row."""
        job_return.cfg = job_return.hydra_cfg = None


def in_sweep(overrides: list[str], sweep_id: str) -> list[str]:
    """A job's overrides with this sweep's id."""
    return [f"sweep_id={sweep_id}" if one.startswith("sweep_id=") else one for one in overrides]


class LoadgenSweeper(BasicSweeper):
    """Selected by `conf/config.yaml`; takes the same `params` as Hydra's basic sweeper.

    `also`: more sets of params, each swept over by itself: for what cannot be combined with all of `params`. A cell of such a set
    that is the same measurement as one before is left out: of what is swept over it may read nothing. A key of such a set that
    begins with FIXED counts more than the command line.
    """

    __module__ = PLUGIN_MODULE

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None, also: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(max_batch_size, params)
        self._also = [_before_and_after(one) for one in also]

    def sweep(self, arguments: list[str]) -> Any:
        """Run every combination of the swept values, repeat by repeat. Raises ConfigError before anything has started."""
        assert self.launcher is not None and self.config is not None
        sweep_id = new_sweep_id()
        loader = Composed(self._loader())
        first, cells = self._cells(arguments, sweep_id, loader)
        with self._hosts(first) as hosts:
            jobs, runs = _planned(cells, hosts, quiet=first.quiet)
            left = rest(first, runs, sweep_id)
            runs = [runs[number] for number in left.left]
            if first.dry_run:
                dry_run(first, runs)
                return []
            jobs = [in_sweep(jobs[number], left.sweep_id) for number in left.left]
            return self._launch(jobs, left, first, hosts, loader, runs)

    def _hosts(self, cfg: DictConfig) -> AbstractContextManager[Hosts]:
        if self._in_process:
            return hosts_for(cfg)
        from loadgen.cluster.cluster import Elsewhere

        return closing(Elsewhere())

    @property
    def _in_process(self) -> bool:
        return isinstance(self.launcher, BasicLauncher)

    def _launch(
        self, jobs: list[list[str]], left: Rest, first: DictConfig, hosts: Hosts, loader: Composed, runs: Sequence[PlannedRun]
    ) -> Any:
        from loadgen.sweep import driver

        assert self.launcher is not None and self.hydra_context is not None
        dataset = driver.open_dataset(first.dataset)
        dataset.plan(left.sweep_id, left.planned)
        if left.stored:
            dataset.remove_unfinished(left.sweep_id)
        driver.announce(first, left)
        if self._in_process:
            callbacks = self.hydra_context.callbacks
            callbacks.callbacks.insert(0, Forget())  # the first one is called last
            self.launcher.hydra_context = HydraContext(loader, callbacks)  # type: ignore
            driver.current = driver.Driver(cast("Cluster", hosts), dataset, driver.watcher(first, runs))
        try:
            returned = self.launcher.launch(jobs, initial_job_idx=left.first_number) if jobs else []
            statuses = [one.return_value for one in returned]
        finally:
            if driver.current is not None:
                driver.current.close()
                driver.current = None
            driver.show_results(first, dataset, left.sweep_id)
        if any(status != "ok" for status in statuses):
            raise SystemExit(1)
        return returned

    def _cells(self, arguments: list[str], sweep_id: str, loader: Composed) -> tuple[DictConfig, list[Cell]]:
        """The configuration of the first combination, and all of them. Raises ConfigError for what all must have in common."""
        own = self.config.hydra.overrides  # type: ignore[union-attr]
        of_the_driver = [f"sweep_id={sweep_id}", as_override("command", command(*given(own)))]
        jobs, first_of_also = self._combinations(arguments)
        assert self.config is not None
        first: DictConfig | None = None
        cells: list[Cell] = []
        known: set[str] = set()
        for number, (job, apart) in enumerate(counted(zip(jobs, set_apart(jobs), strict=True), "composed", len(jobs))):
            overrides = [*job, *of_the_driver, as_override("job_overrides", apart)]
            if first is None:
                first = loader.task_config(self.config, repeated(overrides, 0))
                _refuse_repeats(jobs, first)
            values = loader.values(self.config, repeated(overrides, 0))
            same = measurement(values) if self._also else ""
            if number >= first_of_also and same and same in known:
                continue
            known.add(same)
            if not self._in_process:  # wherever the job runs, it means this data set
                from results.store.locations import absolute

                first.dataset = values["dataset"] = absolute(values["dataset"])
                overrides.append(as_override("dataset", values["dataset"]))
            cells.append((overrides, values))
        assert first is not None
        problems = []
        for key, what in ONE_OF_A_SWEEP.items():
            swept = sorted({str(values[key]) for _, values in cells})
            if len(swept) > 1:
                problems.append(f"a sweep {what}, and {key} is swept over {', '.join(swept)}: give one value")
        if problems:
            raise ConfigError(problems)
        return first, cells

    def _combinations(self, arguments: list[str]) -> tuple[list[list[str]], int]:
        """The overrides of every combination, and the number of the first one of `also`.

        Raises ConfigError where there is none, or too many to end."""
        parser = OverridesParser.create(config_loader=self._loader())
        sets = ((self._parse_config(), []), *self._also)
        asked = [parser.parse_overrides([*params, *arguments, *fixed]) for params, fixed in sets]
        count = sum(combinations(overrides) for overrides in asked)
        refuse_endless(count)
        if count == 0:
            raise ConfigError(["the sweep has no combination, for a range is empty: use range(START,STOP) with STOP above START"])
        jobs = [self.split_arguments(overrides, max_batch_size=None)[0] for overrides in asked]
        return [[quote_null(one) for one in job] for of_a_set in jobs for job in of_a_set], len(jobs[0])

    def _loader(self) -> ConfigLoader:
        assert self.hydra_context is not None
        return self.hydra_context.config_loader


def _before_and_after(also: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The overrides of a set that the command line may change, and those that it may not."""
    fixed = {key.removeprefix(FIXED): value for key, value in also.items() if key.startswith(FIXED)}
    free = {key: value for key, value in also.items() if not key.startswith(FIXED)}
    return [f"{key}={value}" for key, value in free.items()], [f"{key}={value}" for key, value in fixed.items()]


def combinations(overrides: Sequence[Override]) -> int:
    """How many combinations the swept values have, at most one more than a sweep may have; a key's last values count."""
    by_key = {one.get_key_element(): one for one in overrides}
    count = 1
    for one in by_key.values():
        if one.is_sweep_override():
            count *= sum(1 for _ in islice(one.sweep_string_iterator(), MOST_CELLS + 1))
    return min(count, MOST_CELLS + 1)


def _refuse_repeats(jobs: Sequence[list[str]], first: DictConfig) -> None:
    """Raises ConfigError where a sweep over other keys than the repeats has too many runs: before the others are composed."""
    if not any(key_of(one) in ("repeats", "experiment") for job in jobs[1:] for one in {*job} ^ {*jobs[0]}):
        refuse_endless(len(jobs), int(first.repeats))


def _planned(cells: Sequence[Cell], hosts: Hosts, *, quiet: bool) -> tuple[list[list[str]], list[PlannedRun]]:
    """Overrides of every job in the order they run, and each job's plan. Raises ConfigError with every problem of any job."""
    repeats = [int(values["repeats"]) for _, values in cells]
    _check(cells, hosts, quiet)
    refuse_endless(len(cells), max(repeats))
    jobs: list[list[str]] = []
    runs: list[PlannedRun] = []
    order = in_order(repeats, cells[0][1]["seed"])
    for cell, repeat in counted(order, "planned", sum(repeats), quiet=quiet):
        overrides, values = cells[cell]
        values["repeat"] = repeat
        runs.append(plan_guests(values, [node.host for node in hosts.nodes], len(jobs)))
        jobs.append(repeated(overrides, repeat))
    return jobs, runs


def _check(cells: Sequence[Cell], hosts: Hosts, quiet: bool) -> None:
    problems: dict[str, str] = {}
    for overrides, values in counted(cells, "checked", len(cells), quiet=quiet):
        try:
            validate_on(values, hosts)
        except ConfigError as error:
            own = [one for one in overrides if one.partition("=")[0] not in SET_BY_THE_DRIVER]
            problems |= dict.fromkeys(error.problems, " ".join(own))
        if len(problems) >= MOST_PROBLEMS:
            break
    if problems:
        raise ConfigError([f"{problem} (job {job})" if job else problem for problem, job in problems.items()])
    validate_cells([values for _, values in cells])
