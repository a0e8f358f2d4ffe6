"""The questions the experiments ask: one module a question, named after its experiment, computes its table from the data set.

A module of this package has `answer(dataset, sweep_id) -> Answer`. The experiment names it (`question: NAME`), its sweep ends
with the table, and `loadgen-report answer NAME DATASET` prints it again; nothing else knows of it.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.tables.answer import Answer, Question


def names() -> tuple[str, ...]:
    """Every question there is."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def answer(name: str, dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """Answer one question from a sweep, or from all of them. Raises DataSetError: no such question, no run to answer it."""
    if name not in names():
        raise DataSetError(f"there is no question {name}: use one of {', '.join(names())}")
    asked: Question = import_module(f"{__name__}.{name}").answer
    return asked(dataset, sweep_id)
