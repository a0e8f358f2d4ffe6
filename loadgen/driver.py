"""The driver's state between the runs of one process: the session, the data set and the progress, each opened once."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from secrets import token_hex

from omegaconf import DictConfig

from loadgen.errors import ConfigError
from loadgen.guest_run import Measured, run_guest
from loadgen.host import Host, probe
from loadgen.plan import PlannedRun, plan_run
from loadgen.progress import SweepProgress
from loadgen.session import Session
from loadgen.validate import validate
from results.location import DataSetError
from results.store import DataSet
from results.summary import summary
from results.tables import print_summary


class Driver:
    """Runs planned runs one after the other. Made by the sweeper for its jobs, or by a job that runs elsewhere."""

    def __init__(self, dataset: DataSet, *, total: int, quiet: bool) -> None:
        self.statuses: list[str] = []
        self._dataset = dataset
        self._progress = SweepProgress(total, quiet=quiet)
        self._session: Session | None = None
        self._host = probe()

    def run(self, cfg: DictConfig, job: int) -> Measured:
        """Run the configuration's one repeat and store it."""
        planned = plan_run(cfg, self._host, job)
        if self._session is None:
            self._session = Session()
        self._progress.begin(planned)
        measured = run_guest(self._session, planned, self._dataset, self._host, self._progress.look)
        self.statuses.append(measured.status)
        self._progress.end(planned, measured)
        return measured

    def close(self) -> None:
        """End Ray and the progress; idempotent."""
        self._progress.close()
        if self._session is not None:
            self._session.close()
            self._session = None


current: Driver | None = None
"""The sweeper's driver, when jobs run in the sweeper's own process."""


def new_sweep_id() -> str:
    """Sortable, and unique enough for sweeps started in the same second. The letter keeps readers of the data set, to whom it
    is a folder's name, from taking it for a date."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-s{token_hex(2)}"


def open_dataset(uri: str) -> DataSet:
    """The data set to write to. Raises ConfigError when it cannot be written or holds something else."""
    try:
        return DataSet.open(uri)
    except DataSetError as error:
        raise ConfigError([f"dataset={uri}: {error}"]) from None


def check(cfg: DictConfig, host: Host, job: int) -> PlannedRun:
    """Validate one configuration and plan it. Raises ConfigError."""
    validate(cfg, host)
    return plan_run(cfg, host, job)


def print_results(dataset: DataSet, sweep_id: str) -> None:
    """The table of a sweep, computed from what was stored."""
    if sweep_id in dataset.sweeps():
        print_summary(summary(dataset, sweep_id), sys.stdout)
        print(f"\nsweep {sweep_id} in {dataset.uri}")
