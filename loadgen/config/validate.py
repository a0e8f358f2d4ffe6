"""The one validation: every rule across groups, each refusal with what is wrong, which key, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from loadgen.config import check
from loadgen.config.explain import why
from loadgen.config.rules import (
    access,
    cluster,
    disturb,
    external,
    guest,
    page_server,
    placement,
    prefetch,
    source,
    strategy,
    swap,
)
from loadgen.config.schema import KEYS
from loadgen.errors import ConfigError
from loadgen.host.probe import Host
from loadgen.plan.fault_shares import settle
from loadgen.plan.legality import memory_type_of
from loadgen.plan.values import Config, plain
from workers.registry import engine_entries, strategy_entries


def validate(cfg: Config, host: Host, hosts: int = 1, *, whole: bool = True) -> None:
    """Raises ConfigError with every problem of this configuration on this host, one of `hosts` that share the guests.

    `whole` false: it will run on other hosts, which check themselves; only what is wrong anywhere is looked for.
    """
    try:
        values = plain(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError([why(error)]) from None
    settle(values["fault_mix"])
    problems = list(_platform(host)) or [*check.problems(values), *cluster.patience(values)]
    if not problems:
        asked = _here(values, host) if whole else (source.problems(values), cluster.problems(values))
        problems = [problem for some in asked for problem in some]
    if not problems and whole:
        problems = [*guest.room(values, host, -(-values["guests"] // hosts))]
    if problems:
        raise ConfigError(problems)


def measurement(cfg: Config) -> str:
    """What a configuration measures: two with the same are one measurement. Empty of one that validation will refuse."""
    try:
        return json.dumps(check.measured_alike(plain(cfg)), sort_keys=True)
    except (OmegaConfBaseException, KeyError):
        return ""


def validate_cells(cells: Sequence[Config]) -> None:
    """Rules over all configurations of a command, each of which is valid by itself. Raises ConfigError for keys that none of
    them reads, and for two that are the same measurement."""
    alone = [plain(cfg) for cfg in cells]
    problems = check.unread_everywhere(alone)
    known: dict[str, int] = {}
    for number, values in enumerate(alone):
        first = known.setdefault(json.dumps(check.measured_alike(values), sort_keys=True), number)
        if first != number and not problems:
            problems.append(_twice(alone[first], values))
    if problems:
        raise ConfigError(problems)


def _twice(first: dict[str, Any], second: dict[str, Any]) -> str:
    differing = [f"{key.name}={key.of(second)}" for key in KEYS if key.of(first) != key.of(second)]
    if differing:
        return f"the sweep has one cell twice, for nothing reads what differs ({', '.join(differing)}): sweep over it by itself"
    return "the sweep has one cell twice: give each value once, and use repeats=2 to measure each cell again"


def _platform(host: Host) -> Iterator[str]:
    if host.system != "Linux":
        yield f"userfaultfd is a Linux facility and this is {host.system}: run on Linux 6.1 or later"
    if host.refused_base_pages:
        yield host.refused_base_pages


def _here(values: dict[str, Any], host: Host) -> Iterator[Iterable[str]]:
    """Every rule for runs on this host."""
    entry = strategy_entries()[values["strategy"]["name"]]
    yield guest.problems(values, host)
    yield strategy.problems(values, host)
    yield placement.problems(values, host)
    yield access.problems(values)
    yield source.problems(values)
    engine = engine_entries()[values["engine"]["name"]]
    yield disturb.problems(values["disturb"], entry, engine, memory_type_of(entry, values["memory"]["type"]), host)
    yield prefetch.problems(values)
    yield swap.problems(values, host)
    yield page_server.problems(values)
    yield external.problems(values)
    yield cluster.problems(values)
