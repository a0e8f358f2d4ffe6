"""The driver's state between the runs of one process: the session, the data set and the progress, each opened once."""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Sequence
from threading import Thread

from omegaconf import DictConfig

from loadgen.cluster.cluster import Cluster
from loadgen.cluster.host_lock import alone_on
from loadgen.cluster.session import Session
from loadgen.errors import ConfigError
from loadgen.plan.guests_over_hosts import plan_guests
from loadgen.plan.plan import PlannedRun
from loadgen.run.measured import Measured, not_stored
from loadgen.run.run import run_guests
from loadgen.show import json_events as events
from loadgen.show.progress import Quiet, Watcher, for_people
from loadgen.sweep.resume import Rest
from results import questions
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.store.parquet import get_ready
from results.summaries.noise import flagged
from results.summaries.summary import summary
from results.tables.answer import print_answer
from results.tables.summary_table import print_summary


class Driver:
    """Runs planned runs one after the other. Made by the sweeper for its jobs, or by a job that runs elsewhere."""

    def __init__(self, cluster: Cluster, dataset: DataSet, watcher: Watcher) -> None:
        self.statuses: list[str] = []
        self._cluster = cluster
        self._dataset = dataset
        self._watcher = watcher
        self._session: Session | None = None

    def run(self, cfg: DictConfig, job: int) -> Measured:
        """Run the configuration's one repeat and store it."""
        nodes = self._cluster.nodes
        planned = plan_guests(cfg, [node.host for node in nodes], job)
        used = [nodes[guest.host] for guest in planned.guests] if planned.exclusive else []
        with alone_on(used, self._watcher.say) as waited_s:
            if self._session is None:
                ahead = Thread(target=get_ready)  # while Ray starts
                ahead.start()
                self._session = Session(self._cluster, cfg.cluster.deadman_s, actors=planned.actors)
                ahead.join()
            self._watcher.begin(planned)
            try:
                measured = run_guests(self._session, planned, self._dataset, self._watcher.look, waited_s)
            except DataSetError as error:  # nothing of it is in the tables; the next run may find room
                measured = not_stored(error)
                self._session.renew()
        self.statuses.append(measured.status)
        self._watcher.end(planned, measured)
        return measured

    def close(self) -> None:
        """End the actors, the cluster as far as it is ours, and what is shown of the runs; idempotent."""
        self._watcher.close()
        if self._session is not None:
            self._session.close()
            self._session = None
        self._cluster.close()


current: Driver | None = None
"""The sweeper's driver, when jobs run in the sweeper's own process."""


def open_dataset(uri: str) -> DataSet:
    """The data set to write to. Raises ConfigError when it cannot be written or holds something else."""
    try:
        return DataSet.open(uri)
    except DataSetError as error:
        raise ConfigError([f"dataset={uri}: {error}"]) from None


def join_dataset(uri: str) -> DataSet:
    """The data set of a sweep that another process began. Raises ConfigError when it cannot be read from here."""
    try:
        DataSet.existing(uri)
        return DataSet.open(uri)
    except DataSetError as error:
        raise ConfigError(
            [
                f"dataset={uri}, seen from {socket.gethostname()}: {error}; jobs on several hosts need one that all "
                "of them see: a shared folder, or s3://"
            ]
        ) from None


def watcher(cfg: DictConfig, runs: Sequence[PlannedRun]) -> Watcher:
    """What the user asked to see of the planned runs; none when their number is unknown."""
    if cfg.json:
        return events.Events(cfg.sweep_id)
    return Quiet() if cfg.quiet else for_people(runs)


def announce(cfg: DictConfig, left: Rest) -> None:
    """A sweep begins, or goes on."""
    if cfg.json:
        runs = len(left.left)
        events.emit("sweep_started", left.sweep_id, runs=runs, stored=left.stored, dataset=cfg.dataset, command=cfg.command)
    elif left.stored and not cfg.quiet:
        total = left.stored + len(left.left)
        print(f"going on with sweep {left.sweep_id}: {left.stored} of {total} runs are stored", file=sys.stderr)


def show_results(cfg: DictConfig, dataset: DataSet, sweep_id: str) -> None:
    """A sweep has ended: its tables, computed from what was stored."""
    dataset.copy_runs()
    stored = sweep_id in dataset.sweeps()
    if cfg.json:
        rows = dataset.read("runs", ["status", "trusted"], sweep_id).to_pylist() if stored else []
        by_status = dict(Counter(row["status"] for row in rows))
        events.emit("sweep_ended", sweep_id, runs=len(rows), by_status=by_status, not_trusted=flagged(rows))
        return
    if not stored:
        return
    print_summary(summary(dataset, sweep_id), sys.stdout)
    if cfg.question:
        _print_answer(cfg.question, dataset, sweep_id)
    print(f"\nsweep {sweep_id} in {dataset.uri}")


def _print_answer(question: str, dataset: DataSet, sweep_id: str) -> None:
    print()
    try:
        answer = questions.answer(question, dataset, sweep_id)
    except DataSetError as error:  # every run failed, which the lines above show
        print(f"{question}: {error}")
        return
    print_answer(answer, noise=False)  # the summary above has printed it
