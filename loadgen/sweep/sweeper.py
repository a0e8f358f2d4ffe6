"""A thin sweeper on Hydra's basic one: every job is composed, validated and planned before the first starts, and the repeat is
the outermost axis, so that drift of the machine hits all configurations alike. Launchers are Hydra's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import closing
from types import ModuleType
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from loadgen.cluster.cluster import Cluster, Elsewhere, cluster_for
from loadgen.config.command_line import as_override, command, given
from loadgen.config.schema import SET_BY_THE_DRIVER
from loadgen.config.validate import validate_cells
from loadgen.errors import ConfigError
from loadgen.plan.guests_over_hosts import plan_guests
from loadgen.plan.plan import PlannedRun
from loadgen.sweep import driver
from loadgen.sweep.compose_cache import Composed, repeated
from loadgen.sweep.resume import Rest
from loadgen.sweep.set_apart import set_apart
from results.store.locations import absolute

# The scan loads the core plugins' modules anew, so classes imported from them before it are strangers to those after it.
_PLUGINS = Plugins.instance()

from hydra._internal.core_plugins.basic_launcher import BasicLauncher  # noqa: E402
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: E402

PLUGIN_MODULE = "hydra_plugins.uffd_loadgen"
"""Hydra takes plugins from the package hydra_plugins only, and a namespace package is not served by every kind of editable
install: this module is known by that name too, and its class registered by hand."""

ONE_OF_A_SWEEP = {"dataset": "is one data set", "cluster": "runs on one cluster"}
"""Keys that cannot be swept over, and why."""


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
        loader = Composed(self._loader())
        composed = self._composed(arguments, sweep_id, loader)
        first = composed[0][1]
        cluster = cluster_for(first) if self._in_process else Elsewhere()
        with closing(cluster):
            jobs, runs = self._plan(composed, cluster)
            left = driver.rest(first, runs, sweep_id)
            runs = [runs[number] for number in left.left]
            if first.dry_run:
                driver.show_plan(first, runs)
                return []
            jobs = [in_sweep(jobs[number], left.sweep_id) for number in left.left]
            return self._launch(jobs, left, first, cluster, loader, runs)

    @property
    def _in_process(self) -> bool:
        return isinstance(self.launcher, BasicLauncher)

    def _launch(
        self, jobs: list[list[str]], left: Rest, first: DictConfig, cluster: Cluster, loader: Composed, runs: Sequence[PlannedRun]
    ) -> Any:
        assert self.launcher is not None and self.hydra_context is not None
        dataset = driver.open_dataset(first.dataset)
        dataset.plan(left.sweep_id, left.planned)
        if left.stored:
            dataset.remove_unfinished(left.sweep_id)
        driver.announce(first, left)
        if self._in_process:
            callbacks = self.hydra_context.callbacks
            callbacks.callbacks.insert(0, Forget())  # the first one is told last
            self.launcher.hydra_context = HydraContext(loader, callbacks)  # type: ignore
            driver.current = driver.Driver(cluster, dataset, driver.watcher(first, runs))
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

    def _composed(self, arguments: list[str], sweep_id: str, loader: Composed) -> list[tuple[list[str], DictConfig]]:
        """Each combination's overrides and its configuration. Raises ConfigError for what all must have in common."""
        parser = OverridesParser.create(config_loader=self._loader())
        asked = [parser.parse_overrides([*params, *arguments]) for params in (self._parse_config(), *self._also)]
        own = self.config.hydra.overrides  # type: ignore[union-attr]
        of_the_driver = [f"sweep_id={sweep_id}", as_override("command", command(*given(own)))]
        composed = []
        given_jobs = [job for overrides in asked for job in self.split_arguments(overrides, max_batch_size=None)[0]]
        for job, apart in zip(given_jobs, set_apart(given_jobs), strict=True):
            job_overrides = [*job, *of_the_driver, as_override("job_overrides", apart)]
            cfg = self._compose(loader, job_overrides)
            if not self._in_process:  # wherever the job runs, it means this data set
                cfg.dataset = absolute(cfg.dataset)
                job_overrides.append(as_override("dataset", cfg.dataset))
            composed.append((job_overrides, cfg))
        problems = []
        for key, what in ONE_OF_A_SWEEP.items():
            values = sorted({str(cfg[key]) for _, cfg in composed})
            if len(values) > 1:
                problems.append(f"a sweep {what}, and {key} is swept over {', '.join(values)}: give one")
        if problems:
            raise ConfigError(problems)
        return composed

    def _plan(self, composed: list[tuple[list[str], DictConfig]], cluster: Cluster) -> tuple[list[list[str]], list[PlannedRun]]:
        """Overrides of every job in the order they run, and each job's plan. Raises ConfigError with every problem of any job."""
        problems: dict[str, str] = {}
        for number, (overrides, cfg) in enumerate(composed):
            try:
                driver.check(cfg, cluster, number)
            except ConfigError as error:
                own = [one for one in overrides if one.partition("=")[0] not in SET_BY_THE_DRIVER]
                problems |= dict.fromkeys(error.problems, " ".join(own))
        if problems:
            raise ConfigError([f"{problem} (job {job})" if job else problem for problem, job in problems.items()])
        validate_cells([cfg for _, cfg in composed])
        hosts = [node.host for node in cluster.nodes]
        jobs: list[list[str]] = []
        runs: list[PlannedRun] = []
        for repeat in range(max(cfg.repeats for _, cfg in composed)):
            for job_overrides, cfg in composed:
                if repeat < cfg.repeats:
                    cfg.repeat = repeat
                    runs.append(plan_guests(cfg, hosts, len(jobs)))
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
