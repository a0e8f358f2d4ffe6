"""The command `loadgen`: a Hydra app; one run, or with -m or an experiment a sweep."""

from __future__ import annotations

import importlib.util
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from loadgen import driver
from loadgen.dry_run import print_plan
from loadgen.errors import ConfigError
from loadgen.host import probe
from loadgen.schema import register
from loadgen.sweeper import register_sweeper

INTERRUPTED = 130


def config_path() -> str:
    """Where the configuration groups are: inside the installed package, or at the top of a checkout."""
    installed = importlib.util.find_spec("loadgen.conf") is not None
    return "pkg://loadgen.conf" if installed else "pkg://conf"


def run(cfg: DictConfig) -> str:
    """One job: a job of a sweep does its one repeat; a run of its own does them all and prints the table. The last status."""
    try:
        return _job(cfg, HydraConfig.get().job.num) if cfg.sweep_id else _run_alone(cfg)
    except ConfigError as error:  # Hydra would print the overrides above it, which are not what is wrong
        print(error, file=sys.stderr)
        raise SystemExit(1) from None


def _run_alone(cfg: DictConfig) -> str:
    cfg.sweep_id = driver.new_sweep_id()
    host = probe()
    runs = []
    for repeat in range(cfg.repeats):
        cfg.repeat = repeat
        runs.append(driver.check(cfg, host, 0))
    if cfg.dry_run:
        print_plan(runs)
        return "ok"
    dataset = driver.open_dataset(cfg.dataset)
    own = driver.Driver(dataset, total=len(runs), quiet=cfg.quiet)
    try:
        for repeat in range(cfg.repeats):
            cfg.repeat = repeat
            own.run(cfg, 0)
    finally:
        own.close()
        driver.print_results(dataset, cfg.sweep_id)
    failed = [status for status in own.statuses if status != "ok"]
    if failed:
        raise SystemExit(1)
    return "ok"


def _job(cfg: DictConfig, number: int) -> str:
    """A job of a sweep: in the sweeper's process on its driver, elsewhere on one of its own."""
    if driver.current is not None:
        return driver.current.run(cfg, number).status
    own = driver.Driver(driver.open_dataset(cfg.dataset), total=0, quiet=cfg.quiet)
    try:
        return own.run(cfg, number).status
    finally:
        own.close()


def quote_null(argument: str) -> str:
    """`strategy=null` names a strategy, where Hydra's grammar would read the absence of a value."""
    key, equals, values = argument.partition("=")
    if key != "strategy":
        return argument
    return key + equals + ",".join("'null'" if value.strip() == "null" else value for value in values.split(","))


def main() -> None:
    """Entry point. Exit status: 0 every run is ok; 1 one is not, or nothing was started; 130 interrupted."""
    register()
    register_sweeper()
    sys.argv[1:] = [quote_null(argument) for argument in sys.argv[1:]]
    try:
        hydra.main(version_base="1.3", config_path=config_path(), config_name="config")(run)()
    except KeyboardInterrupt:
        print("interrupted; what was measured is stored", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
