"""The rows of `runs` that a question is answered from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.noise import trusted_only

_ALWAYS = ("run_id", "status", "reason", "strategy", "repeat", "trusted", "distrust", "fault_records")


class TrustedRuns(DataSet):
    """A data set without the runs that are flagged as noisy or were not judged."""

    @classmethod
    def of(cls, dataset: DataSet) -> TrustedRuns:
        """The same data set so restricted."""
        return cls(dataset._location, dataset.version)

    def runs(self, sweep_id: str | None = None, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """As DataSet.runs. Raises DataSetError when no run is left."""
        wanted = None if columns is None else list(dict.fromkeys((*columns, "trusted")))
        return [dict(run) for run in trusted_only(super().runs(sweep_id, wanted))]


def every_run(dataset: DataSet, columns: Iterable[str], sweep_id: str | None, experiment: str) -> list[dict[str, Any]]:
    """Runs of any status, with some columns and those that every question needs. Raises DataSetError when there is none, with
    the experiment that makes some."""
    runs = dataset.runs(sweep_id, list(dict.fromkeys((*_ALWAYS, *columns))))
    if not runs:
        raise DataSetError(f"there is no run: `loadgen experiment={experiment}` makes those that answer this")
    return runs


def ok_runs(dataset: DataSet, columns: Iterable[str], sweep_id: str | None, experiment: str) -> list[dict[str, Any]]:
    """The same of the runs that are ok."""
    runs = [run for run in every_run(dataset, columns, sweep_id, experiment) if run["status"] == "ok"]
    if not runs:
        raise DataSetError(f"no run is ok: `loadgen experiment={experiment}` makes those that answer this")
    return runs


def vcpus_of_runs(dataset: DataSet, columns: Iterable[str], sweep_id: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """The rows of `vcpus` by run, with some columns."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for vcpu in dataset.read("vcpus", ["run_id", *columns], sweep_id).to_pylist():
        found[vcpu["run_id"]].append(vcpu)
    return found
