"""What was varied: the parameters in which the configurations of a data set differ.

A parameter is an axis column of `runs`, or a key of the resolved configuration by its dotted name (`fault_mix.swapped`,
`strategy.fault_around_pages`), so that an option that has no column of its own is an axis all the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from sys import intern
from typing import Any

import pyarrow as pa

from results.schema import RUN_COLUMNS
from results.store.locations import DataSetError

Row = Mapping[str, Any]

BASELINE = "uffd_wait"
"""The strategy every other one is compared with, where it was run."""

APART = ("sweep_id", "host", "kernel")
"""Runs that differ in one of these are never taken together, even where they share nothing else."""

_OPTIONS = "strategy_options"
_LEADING = ("strategy", "engine", "fault_mix", "memory_type", "cores", "vcpus")
_AXES = (*_LEADING, *(column.name for column in RUN_COLUMNS if column.axis and column.name not in _LEADING))
_ABOUT = (
    *("run_id", "repeat", "status", "reason", "trusted", "distrust", "started_at", "fault_records", "sample_every"),
    *("config_json", "command", "job_overrides"),
)
_COLUMNS = frozenset(column.name for column in RUN_COLUMNS)
_NOT_VARIED = frozenset(
    ("repeat", "repeats", "seed", "sweep_id", "dataset", "dry_run", "json", "quiet", "resume", "command", "job_overrides")
)


def described(*parameters: str | None) -> list[str]:
    """The columns of `runs` that describe each run and how it ended, and those of `parameters` that are columns: what to read
    of a data set with many runs, whose other columns are not looked at."""
    further = (name for name in parameters if name in _COLUMNS)
    return list(dict.fromkeys((*_AXES, *_ABOUT, *further)))


def value_of(run: Row, parameter: str) -> Any:
    """The run's value of a column or of a configuration key; None for a key its configuration does not have."""
    return run[parameter] if parameter in run else settings(run).get(parameter)


def settings(run: Row) -> Mapping[str, Any]:
    """The resolved configuration by dotted key; lists as JSON text. Empty where it was not stored."""
    return _flattened(run.get("config_json") or "{}")


def checked(runs: Iterable[Row], parameter: str, option: str = "") -> str:
    """`parameter`, if it is a column or some run has the configuration key. Raises DataSetError with what there is, and the
    `option` that named it."""
    keys: set[str] = set()
    if parameter in _COLUMNS:
        return parameter
    for run in runs:
        if parameter in settings(run):
            return parameter
        keys |= settings(run).keys()
    columns = ", ".join(column.name for column in RUN_COLUMNS)
    where = f"{option} {parameter}: " if option else ""
    raise DataSetError(
        f"{where}runs has no column {parameter!r}; it has: {columns}; configuration keys: {', '.join(sorted(keys))}"
    )


def axes(runs: Sequence[Row], known: Sequence[str] = (), without: Collection[str] = ()) -> tuple[str, ...]:
    """The parameters, besides `known` and `without`, that it takes to separate configurations, the one with most values first.

    One that follows from those before it is left out: CPU lists follow from the number of vCPUs.
    """
    needed: list[str] = []
    groups = grouped(runs, known)
    for name in _varied(runs):
        if name not in (*known, *without) and any(len({value_of(run, name) for run in group}) > 1 for group in groups.values()):
            needed.append(name)
            groups = grouped(runs, (*known, *needed))
    return tuple(needed)


def differing(runs: Sequence[Row], known: Sequence[str]) -> tuple[str, ...]:
    """Every column that differs among runs alike in `known`, even where one follows from another, in the schema's order; then
    the configuration keys it takes besides."""
    groups = grouped(runs, known).values()
    columns = [name for name in _AXES if any(len({run.get(name) for run in group}) > 1 for group in groups)]
    further = axes(runs, (*known, *columns))
    ours = set(columns) - ({_OPTIONS} if any(map(of_the_strategy, further)) else set())
    return (*(column.name for column in RUN_COLUMNS if column.name in ours), *further)


def grouped(runs: Iterable[Row], parameters: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """The runs by their values of `parameters`, groups in the order of their values."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for run in runs:
        groups[tuple(value_of(run, name) for name in parameters)].append(run)
    return {values: groups[values] for values in sorted(groups, key=in_order)}


def in_order(values: Iterable[Any]) -> tuple[tuple[int, Any], ...]:
    """A sort key for values of mixed kinds: the baseline first, numbers by size, text by letters, null last."""
    return tuple(_rank(value) for value in values)


def having(runs: Iterable[Row], parameter: str, value: str) -> list[Row]:
    """The runs whose value of a parameter is `value` as people write it. Raises DataSetError when no run has it."""
    runs = list(runs)
    checked(runs, parameter)
    found = [run for run in runs if _written_alike(value_of(run, parameter), value)]
    if not found:
        there = ", ".join(dict.fromkeys(str(values[0]) for values in grouped(runs, (parameter,))))
        raise DataSetError(f"no run has {parameter}={value}; there is: {there}")
    return found


def baseline_of(strategies: Iterable[str | None]) -> str | None:
    """The strategy that others are compared with: BASELINE, or the first by name; None of none."""
    names = sorted({name for name in strategies if name}, key=lambda name: (name != BASELINE, name))
    return names[0] if names else None


def of_the_strategy(parameter: str) -> bool:
    """Whether the parameter is an option of the strategy, which other strategies may not have."""
    return parameter == _OPTIONS or parameter.startswith("strategy.")


def _written_alike(value: Any, text: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).lower() == text.lower()
    try:
        return bool(value == float(text))
    except ValueError:
        return False


def _varied(runs: Sequence[Row]) -> Iterator[str]:
    configured = bool(runs) and all(settings(run) for run in runs)
    columns = [name for name in _AXES if not (name == _OPTIONS and configured)]
    keys = {key for run in runs for key in settings(run) if key not in _NOT_VARIED and key != "strategy.name"}
    named = [part.partition("=")[0] for run in runs[:1] for part in (run.get("job_overrides") or "").split()]
    ordered = sorted(keys, key=lambda key: (named.index(key) if key in named else len(named), key))
    for name in (*columns, *ordered):
        if len({value_of(run, name) for run in runs if name not in _COLUMNS or name in run}) > 1:
            yield name


def _rank(value: Any) -> tuple[int, Any]:
    if value is None:
        return (4, 0)
    if value == BASELINE:
        return (0, 0)
    return (1, value) if isinstance(value, bool | int | float) else (2, str(value))


@lru_cache(maxsize=1 << 17)
def _flattened(config_json: str) -> Mapping[str, Any]:
    return dict(_leaves(json.loads(config_json), ""))


def _leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, intern(f"{name}.{key}" if name else key))
    else:
        yield name, json.dumps(node) if isinstance(node, list) else node


def numeric(value: str) -> str:
    """`value`, if it is a column of `runs` that has a median. Raises DataSetError."""
    types = {column.name: column.type for column in RUN_COLUMNS}
    if value not in types:
        raise DataSetError(f"runs has no column {value!r}; it has: {', '.join(types)}")
    if not (pa.types.is_integer(types[value]) or pa.types.is_floating(types[value])):
        raise DataSetError(f"runs.{value} is not a number ({types[value]}), so it has no median; choose another value")
    return value
