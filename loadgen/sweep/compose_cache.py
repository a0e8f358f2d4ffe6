"""What the plan has composed, kept for the jobs: Hydra's launcher composes each of them again just before it runs, which is half
of the time between two runs, and whatever it came to then would not be what was planned."""

from __future__ import annotations

import copy
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, open_dict

REPEAT = "repeat"
"""The axis that a job is composed for only once: its override, `repeat=N`, comes last."""


def repeated(overrides: list[str], repeat: int) -> list[str]:
    """Overrides of one repeat of a job."""
    return [*overrides, f"{REPEAT}={repeat}"]


class Composed:
    """Stands in for Hydra's `loader` and remembers the jobs it composed, whichever of their repeats is asked for."""

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._jobs: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(self, master: DictConfig, overrides: list[str]) -> DictConfig:
        """The configuration of a job, the node `hydra` included; the caller may change it."""
        *job, last = overrides
        known = self._jobs.get(tuple(job))
        if known is None:
            known = self._jobs[tuple(job)] = self._loader.load_sweep_config(master, overrides)
        found = copy.deepcopy(known)
        of_hydra = found.hydra
        with open_dict(found):
            of_hydra.job.override_dirname = of_hydra.job.override_dirname.replace(f"{REPEAT}={found.repeat}", last)
            of_hydra.overrides.task = [*list(of_hydra.overrides.task)[:-1], last]
            found.repeat = int(last.partition("=")[2])
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
