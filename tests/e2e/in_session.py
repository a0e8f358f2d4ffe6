"""Runs that a test makes one by one on real Ray: one driver's session, the rows as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, open_dict

from loadgen.app import config_path
from loadgen.cluster.cluster import cluster_for
from loadgen.cluster.session import Session
from loadgen.config.command_line import quote_null
from loadgen.config.hydra_schema import register
from loadgen.run.run import run_guests
from loadgen.sweep.plan_runs import check
from loadgen.sweep.sweeper import register_sweeper
from results.store.dataset import DataSet


def configured(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_module(config_path().removeprefix("pkg://"), version_base="1.3"):
        cfg = compose("config", ["measure_s=0", *(quote_null(override) for override in overrides)])
    with open_dict(cfg):
        cfg.sweep_id, cfg.repeat = "bench", 0
    return cfg


class InSession:
    """A driver's cluster and its actors, kept over the tests of a module. Hosts are probed as it starts: what a run needs of them
    is there before."""

    def __enter__(self) -> InSession:
        register()
        register_sweeper()
        self.cluster = cluster_for(configured())
        self.session = Session(self.cluster)
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        self.cluster.close()


class Bench:
    """Runs of one data set in one session; each gives its row."""

    def __init__(self, rig: InSession, folder: Path) -> None:
        self.rig, self.dataset, self.runs = rig, DataSet.open(str(folder)), 0

    def run(self, *overrides: str) -> dict[str, Any]:
        self.runs += 1
        planned = check(configured(*overrides), self.rig.cluster, self.runs)
        return run_guests(self.rig.session, planned, self.dataset, lambda _: None).row
