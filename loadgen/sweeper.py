"""A thin sweeper on Hydra's basic one: every job is composed, validated and planned before the first starts, and the repeat is
the outermost axis, so that drift of the machine hits all configurations alike. Launchers are Hydra's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from loadgen import driver
from loadgen.command_line import as_override, command, given
from loadgen.composed import Composed, repeated
from loadgen.errors import ConfigError
from loadgen.host import Host, probe
from loadgen.plan import PlannedRun, plan_run

# The scan loads the core plugins' modules anew, so classes imported from them before it are strangers to those after it.
_PLUGINS = Plugins.instance()

from hydra._internal.core_plugins.basic_launcher import BasicLauncher  # noqa: E402
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: E402

PLUGIN_MODULE = "hydra_plugins.uffd_loadgen"
"""Hydra takes plugins from the package hydra_plugins only, and a namespace package is not served by every kind of editable
install: this module is known by that name too, and its class registered by hand."""


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


class LoadgenSweeper(BasicSweeper):
    """Selected by `conf/config.yaml`; takes the same `params` as Hydra's basic sweeper.

    `also`: more sets of params, each swept over by itself: for what cannot be combined with all of `params`.
    """

    __module__ = PLUGIN_MODULE

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None, also: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(max_batch_size, params)
        self._also = [[f"{key}={value}" for key, value in one.items()] for one in also]

    def sweep(self, arguments: list[str]) -> Any:
        """Run every combination of the swept values, repeat by repeat. Raises ConfigError before anything has started."""
        assert self.launcher is not None and self.config is not None
        sweep_id = driver.new_sweep_id()
        composed = Composed(self._loader())
        jobs, runs, first = self._plan(arguments, sweep_id, composed)
        if first.dry_run:
            driver.show_plan(first, runs)
            return []
        dataset = driver.open_dataset(first.dataset)
        in_process = isinstance(self.launcher, BasicLauncher)
        driver.announce(first, sweep_id, len(runs))
        if in_process:
            self.launcher.hydra_context = HydraContext(composed, self.hydra_context.callbacks)  # type: ignore
            driver.current = driver.Driver(dataset, driver.watcher(first, len(jobs)))
        try:
            returned = self.launcher.launch(jobs, initial_job_idx=0)
            statuses = [one.return_value for one in returned]
        finally:
            if driver.current is not None:
                driver.current.close()
                driver.current = None
            driver.show_results(first, dataset, sweep_id)
        if any(status != "ok" for status in statuses):
            raise SystemExit(1)
        return returned

    def _plan(
        self, arguments: list[str], sweep_id: str, loader: Composed
    ) -> tuple[list[list[str]], list[PlannedRun], DictConfig]:
        """Overrides of every job in the order they run, each job's plan, and the first job's configuration."""
        parser = OverridesParser.create(config_loader=self._loader())
        asked = [parser.parse_overrides([*params, *arguments]) for params in (self._parse_config(), *self._also)]
        host = probe()
        own = self.config.hydra.overrides  # type: ignore[union-attr]
        of_the_driver = [f"sweep_id={sweep_id}", as_override("command", command(*given(own)))]
        problems: dict[str, str] = {}
        composed: list[tuple[list[str], DictConfig]] = []
        for job in (job for overrides in asked for job in self.split_arguments(overrides, max_batch_size=None)[0]):
            job_overrides = [*job, *of_the_driver]
            cfg = self._compose(loader, job_overrides)
            try:
                driver.check(cfg, host, len(composed))
            except ConfigError as error:
                problems |= dict.fromkeys(error.problems, " ".join(job))
            composed.append((job_overrides, cfg))
        datasets = sorted({cfg.dataset for _, cfg in composed})
        if len(datasets) > 1:
            problems[f"a sweep is one data set, and dataset is swept over {', '.join(datasets)}: give one"] = ""
        if problems:
            raise ConfigError([f"{problem} (job {job})" if job else problem for problem, job in problems.items()])
        return *self._repeat(composed, host), composed[0][1]

    def _repeat(self, composed: list[tuple[list[str], DictConfig]], host: Host) -> tuple[list[list[str]], list[PlannedRun]]:
        jobs: list[list[str]] = []
        runs: list[PlannedRun] = []
        for repeat in range(max(cfg.repeats for _, cfg in composed)):
            for job_overrides, cfg in composed:
                if repeat < cfg.repeats:
                    cfg.repeat = repeat
                    runs.append(plan_run(cfg, host, len(jobs)))
                    jobs.append(repeated(job_overrides, repeat))
        return jobs, runs

    def _compose(self, loader: Composed, overrides: list[str]) -> DictConfig:
        composed = loader.load_sweep_config(self.config, repeated(overrides, 0))  # type: ignore[arg-type]
        with open_dict(composed):
            del composed["hydra"]
        return composed

    def _loader(self) -> ConfigLoader:
        assert self.hydra_context is not None
        return self.hydra_context.config_loader
