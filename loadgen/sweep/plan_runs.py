"""From composed configurations to planned runs: checked on every host, in the order they are made. Nothing is started here, and
nothing that starts runs is imported."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from omegaconf import DictConfig

from loadgen.config.rules import cluster
from loadgen.config.validate import validate
from loadgen.errors import ConfigError
from loadgen.host.probe import Host, probe
from loadgen.plan.guests_over_hosts import plan_guests
from loadgen.plan.plan import PlannedRun
from loadgen.plan.values import Config

if TYPE_CHECKING:
    from loadgen.cluster.cluster import Cluster

MOST_CELLS = 10_000
MOST_RUNS = 100_000
SILENT_S = 1.0

One = TypeVar("One")


class PlannedOn(Protocol):
    """A host that runs are planned for, with what names it in a refusal; `id` is empty for the driver's own."""

    name: str
    id: str
    address: str
    host: Host


class Hosts(Protocol):
    """The hosts of a plan; `known`: whether the runs are made on them."""

    nodes: Sequence[Any]
    known: bool

    def close(self) -> None:
        """Give everything back; idempotent."""


class ThisHost:
    """The driver's own host, for a plan that is not carried out: neither Ray nor a lock is needed."""

    known = True
    name, id, address = "", "", "127.0.0.1"

    def __init__(self) -> None:
        self.host = probe()
        self.nodes: Sequence[PlannedOn] = (self,)

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def hosts_for(cfg: DictConfig) -> Iterator[Hosts]:
    """The hosts that a configuration asks for; without Ray where a plan on this host is all that is wanted. Raises ConfigError
    when they cannot be reached."""
    with closing(_hosts(cfg)) as hosts:
        yield hosts


def _hosts(cfg: DictConfig) -> Hosts:
    if cfg.dry_run and cfg.cluster.name == "local":
        return ThisHost()
    from loadgen.cluster.cluster import CLUSTERS, cluster_for

    if cfg.cluster.name not in CLUSTERS:
        raise ConfigError([f"cluster.name={cfg.cluster.name} is unknown: use one of {', '.join(CLUSTERS)}"])
    if cfg.cluster.name == "existing" and not cfg.cluster.address:
        raise ConfigError([cluster.NO_ADDRESS])
    found: Cluster = cluster_for(cfg)
    return found


def new_sweep_id() -> str:
    """Sortable, and unique enough for sweeps started in the same second. The letter keeps readers of the data set, to whom it
    is a folder's name, from taking it for a date."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-s{token_hex(2)}"


def check(cfg: Config, hosts: Hosts, job: int) -> PlannedRun:
    """Validate one configuration on every host it may use, and plan it. Raises ConfigError."""
    validate_on(cfg, hosts)
    return plan_guests(cfg, [node.host for node in hosts.nodes], job)


def validate_on(cfg: Config, hosts: Hosts) -> None:
    """Validate one configuration on every host it may use. Raises ConfigError."""
    problems: list[str] = []
    for node in hosts.nodes:
        try:
            validate(cfg, node.host, len(hosts.nodes), whole=hosts.known)
        except ConfigError as error:
            problems += [f"node {node.name} ({node.address}): {one}" if node.id else one for one in error.problems]
    if problems:
        raise ConfigError(problems)


def in_order(repeats: Sequence[int], seed: int) -> Iterator[tuple[int, int]]:
    """(cell, repeat) of every run, where cell i has `repeats[i]` of them: the repeat is the outermost axis, so that drift of the
    machine affects all cells alike, and the cells are shuffled inside each repeat, so that none always follows the same one."""
    for repeat in range(max(repeats, default=0)):
        cells = [cell for cell, most in enumerate(repeats) if repeat < most]
        random.Random(f"{seed} {repeat}").shuffle(cells)
        yield from ((cell, repeat) for cell in cells)


def refuse_endless(cells: int, repeats: int = 1) -> None:
    """Raises ConfigError for a sweep that cannot be planned, stored or ended."""
    if cells > MOST_CELLS:
        raise ConfigError([f"the sweep has more than {MOST_CELLS} combinations: give fewer values, or several sweeps"])
    if cells * repeats > MOST_RUNS:
        raise ConfigError([f"the sweep has {cells * repeats} runs, and run ids number {MOST_RUNS}: use fewer values or repeats"])


def counted(items: Iterable[One], doing: str, total: int, *, quiet: bool = False) -> Iterator[One]:
    """The items, with a line on stderr every SILENT_S seconds while they are gone through."""
    last = time.monotonic()
    for number, item in enumerate(items):
        if not quiet and time.monotonic() - last > SILENT_S:
            last = time.monotonic()
            print(f"{doing}: {number} of {total}", file=sys.stderr, flush=True)
        yield item
