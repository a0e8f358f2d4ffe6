"""The command `loadgen`: a Hydra app; one run, or with -m or an experiment a sweep."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import closing, suppress

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from loadgen.cluster.cluster import Cluster, cluster_for
from loadgen.config.command_line import command, from_hydra, given, literal, to_hydra
from loadgen.config.hydra_schema import register
from loadgen.config.validate import validate_cells
from loadgen.errors import ConfigError
from loadgen.host.probe import package_version
from loadgen.host.stop_signals import exit_status, stop_on_signals
from loadgen.sweep import driver
from loadgen.sweep.sweeper import register_sweeper


def config_path() -> str:
    """Where the configuration groups are: inside the installed package, or at the top of a checkout."""
    installed = importlib.util.find_spec("loadgen.conf") is not None
    return "pkg://loadgen.conf" if installed else "pkg://conf"


def run(cfg: DictConfig) -> str:
    """One job: a job of a sweep does its one repeat; a run of its own does them all and prints the table. The last status."""
    task, of_hydra = given(HydraConfig.get().overrides)
    if not cfg.sweep_id:
        cfg.job_overrides = literal(from_hydra(task))
    if not cfg.command:
        cfg.command = literal(command(task, of_hydra))
    if cfg.sweep_id:
        return _job(cfg, HydraConfig.get().job.num)
    try:
        return _run_alone(cfg)
    except ConfigError as error:  # Hydra would print the overrides above it, which are not what is wrong
        print(error, file=sys.stderr)
        raise SystemExit(1) from None


def _run_alone(cfg: DictConfig) -> str:
    cfg.sweep_id = driver.new_sweep_id()
    with closing(cluster_for(cfg)) as cluster:
        return _repeats(cfg, cluster)


def _repeats(cfg: DictConfig, cluster: Cluster) -> str:
    runs = []
    for repeat in range(cfg.repeats):
        cfg.repeat = repeat
        runs.append(driver.check(cfg, cluster, 0))
    validate_cells([cfg])
    left = driver.rest(cfg, runs, cfg.sweep_id)
    cfg.sweep_id = left.sweep_id
    if cfg.dry_run:
        driver.show_plan(cfg, [runs[repeat] for repeat in left.left])
        return "ok"
    dataset = driver.open_dataset(cfg.dataset)
    if left.stored:
        dataset.remove_unfinished(left.sweep_id)
    driver.announce(cfg, left)
    own = driver.Driver(cluster, dataset, driver.watcher(cfg, [runs[repeat] for repeat in left.left]))
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
    if driver.current is not None:
        return driver.current.run(cfg, number).status
    with closing(cluster_for(cfg)) as cluster:
        driver.check(cfg, cluster, number)
        own = driver.Driver(cluster, driver.join_dataset(cfg.dataset), driver.watcher(cfg, ()))
        try:
            return own.run(cfg, number).status
        finally:
            own.close()


def main() -> None:
    """Entry point. Exit status: 0 every run is ok; 1 one is not, or nothing was started; 130, 143
    and 129 interrupted by Ctrl-C, SIGTERM and SIGHUP."""
    if "--version" in sys.argv[1:]:
        print(f"loadgen {package_version()}")
        return
    stop_on_signals()
    register()
    register_sweeper()
    sys.argv[1:] = to_hydra(sys.argv[1:])
    try:
        hydra.main(version_base="1.3", config_path=config_path(), config_name="config")(run)()
    except KeyboardInterrupt:
        with suppress(OSError):  # after SIGHUP there is no terminal
            print("interrupted; what was measured is stored", file=sys.stderr)
        sys.exit(exit_status())


if __name__ == "__main__":
    main()
