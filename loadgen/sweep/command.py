"""What Hydra calls: a run of its own with all its repeats, or one job of a sweep."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from loadgen.config.command_line import command, from_hydra, given, literal
from loadgen.config.validate import validate_cells
from loadgen.errors import Carried
from loadgen.plan.guests_over_hosts import plan_guests
from loadgen.plan.values import plain
from loadgen.sweep.plan_runs import Hosts, check, counted, hosts_for, new_sweep_id, validate_on
from loadgen.sweep.plan_shown import dry_run, rest

if TYPE_CHECKING:
    from loadgen.cluster.cluster import Cluster


def run(cfg: DictConfig) -> str:
    """One job: a job of a sweep makes its one repeat; a run of its own makes all of them and prints the table. The last status.

    Raises SystemExit(1) when a run is not ok; from a run of its own Carried with what went wrong.
    """
    task, of_hydra = given(HydraConfig.get().overrides)
    if not cfg.sweep_id:
        cfg.job_overrides = literal(from_hydra(task))
    if not cfg.command:
        cfg.command = literal(command(task, of_hydra))
    if cfg.sweep_id:
        return _job(cfg, HydraConfig.get().job.num)
    cfg.sweep_id = new_sweep_id()
    try:
        with hosts_for(cfg) as hosts:
            return _repeats(cfg, hosts)
    except Exception as error:
        raise Carried(error) from None


def _repeats(cfg: DictConfig, hosts: Hosts) -> str:
    validate_on(cfg, hosts)
    validate_cells([cfg])
    there, values = [node.host for node in hosts.nodes], plain(cfg)
    runs = [
        plan_guests(values | {"repeat": repeat}, there)
        for repeat in counted(range(cfg.repeats), "planned", cfg.repeats, quiet=cfg.quiet)
    ]
    left = rest(cfg, runs, cfg.sweep_id)
    cfg.sweep_id = left.sweep_id
    if cfg.dry_run:
        dry_run(cfg, [runs[repeat] for repeat in left.left])
        return "ok"
    from loadgen.sweep import driver

    dataset = driver.open_dataset(cfg.dataset)
    dataset.plan(left.sweep_id, left.planned)
    if left.stored:
        dataset.remove_unfinished(left.sweep_id)
    driver.announce(cfg, left)
    own = driver.Driver(cast("Cluster", hosts), dataset, driver.watcher(cfg, [runs[repeat] for repeat in left.left]))
    try:
        for repeat in left.left:
            cfg.repeat = repeat
            own.run(cfg, left.first_number)
    finally:
        own.close()
        driver.show_results(cfg, dataset, cfg.sweep_id)
    failed = [status for status in own.statuses if status != "ok"]
    if failed:
        raise SystemExit(1)
    return "ok"


def _job(cfg: DictConfig, number: int) -> str:
    """A job of a sweep: in the sweeper's process on its driver, elsewhere on one of its own."""
    from loadgen.cluster.cluster import cluster_for
    from loadgen.sweep import driver

    if driver.current is not None:
        return driver.current.run(cfg, number).status
    with closing(cluster_for(cfg)) as cluster:
        check(cfg, cluster, number)
        own = driver.Driver(cluster, driver.join_dataset(cfg.dataset), driver.watcher(cfg, ()))
        try:
            return own.run(cfg, number).status
        finally:
            own.close()
