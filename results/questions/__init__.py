"""The questions of the experiments: one module a question, named after its experiment, computes its table from the data set.

A module of this package has `answer(dataset, sweep_id) -> Answer`; `hazards` answers those of HAZARDS. The experiment names its
question (`question: NAME`), its sweep ends with the table, and `loadgen-report answer NAME DATASET` prints it again.
"""

from __future__ import annotations

import pkgutil
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.store.dataset import DataSet
    from results.tables.answer import Answer, Question

HAZARDS = (
    "balloon_untracked",
    "device_efault",
    "hazard_blind_resolve",
    "hazard_forgotten_event",
    "hazard_half_filled",
    "hazard_last_descriptor",
    "hazard_lost_races",
    "punched_hole",
    "remove_pending",
    "stale_stage2",
)
"""Experiments whose question is what the counters of a hazard are; `hazards` answers them all."""


def names() -> tuple[str, ...]:
    """Every question there is; pyarrow is imported only to answer one."""
    modules = {module.name for module in pkgutil.iter_modules(__path__)} - {"hazards"}
    return tuple(sorted((*modules, *HAZARDS)))


def answer(name: str, dataset: DataSet, sweep_id: str | None = None, *, trusted_only: bool = False) -> Answer:
    """Answer one question from a sweep, or from all of them; `trusted_only`: without runs flagged as noisy or not judged.

    Raises DataSetError: no such question, no run to answer it.
    """
    from results.store.locations import DataSetError
    from results.summaries.measured import TrustedRuns

    if name not in names():
        raise DataSetError(f"there is no question {name}: use one of {', '.join(names())}")
    module = import_module(f"{__name__}.{'hazards' if name in HAZARDS else name}")
    asked: Question = partial(module.answer, name) if name in HAZARDS else module.answer
    if trusted_only:
        dataset = TrustedRuns.of(dataset)
    return asked(dataset, sweep_id)
