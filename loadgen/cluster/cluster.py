"""Where runs are made: on a Ray of our own on this host, or on every node of one that runs already."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import ray
from omegaconf import DictConfig
from ray.exceptions import GetTimeoutError, RayError

from loadgen.cluster.embedded_ray import keep_off_stdout, start_ray
from loadgen.cluster.heartbeat import Heartbeat
from loadgen.cluster.nodes import Here, Node, RayNode, tell_apart
from loadgen.cluster.temporary import new_folder, remove_stale_folders
from loadgen.errors import ConfigError
from loadgen.host.changes import Keeper, Refused
from loadgen.host.limits import raise_open_files
from loadgen.host.probe import package_version
from loadgen.host.stop_signals import stop_on_signals


class Cluster(Protocol):
    """The hosts of a session, and the Ray its actors live in."""

    nodes: Sequence[Node]
    known: bool
    """Whether these are the hosts that runs are made on."""

    def start(self, actors: int) -> None:
        """Ray is there afterwards, ready to start that many actors at once, and every node has its id; idempotent."""

    def refresh(self) -> None:
        """Forget nodes that are gone, unless all are."""

    def close(self) -> None:
        """Give everything back; idempotent."""


def cluster_for(cfg: DictConfig) -> Cluster:
    """The cluster a configuration asks for. Raises ConfigError when it cannot be had."""
    cluster: Cluster = CLUSTERS[cfg.cluster.name](cfg)
    return cluster


class Local:
    """This host, with a Ray embedded in this process's tree, without a dashboard, started when it is first needed. Its files are
    in a temporary folder of its own. A process that is a part of some Ray already (a launcher's job) uses that."""

    known = True

    def __init__(self, cfg: DictConfig | None = None) -> None:
        self._here = Here()
        self.nodes: Sequence[Node] = (self._here,)
        self._folder = ""
        self._keeper: Keeper | None = None
        self._tmpdir = os.environ.get("TMPDIR")

    def start(self, actors: int) -> None:
        """As in `Cluster`."""
        if self._here.id:
            return
        if ray.is_initialized():
            self._here.join(ray.get_runtime_context().get_node_id())
            return
        remove_stale_folders()
        self._folder = new_folder()
        self._keeper = _keeper_of(self._folder)
        os.environ["TMPDIR"] = self._folder  # inherited by the actors: what a killed one leaves goes with the folder
        if "RAY_AUTH_MODE" not in os.environ:  # a token for this process and its children, without a file in the home
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        logging.getLogger("ray").setLevel(logging.ERROR)  # it would announce the token
        raise_open_files()
        start_ray(self._folder, actors)
        stop_on_signals()
        self._here.id = ray.get_runtime_context().get_node_id()

    def refresh(self) -> None:
        """This host is never gone."""

    def close(self) -> None:
        """As in `Cluster`; Ray's files go too."""
        if not self._folder:
            return
        ray.shutdown()
        if self._keeper is not None:
            self._keeper.undo()
        self._folder = self._here.id = ""
        if self._tmpdir is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = self._tmpdir


class Elsewhere(Local):
    """Hosts that a launcher finds for each job later; until then the plan is made for this host."""

    known = False


class Existing:
    """A Ray that runs already, at `cluster.address` (`auto`: the one this host belongs to, which is also that of a Ray job).

    Every node that is not left out is asked what it can do; it stays as it is, only our actors come and go. Those that answer
    for the nodes are given signs of life, as the guests' are: one that is cut off must not hold its host for ever.
    """

    known = True

    def __init__(self, cfg: DictConfig) -> None:
        self._address: str = cfg.cluster.address
        self._joined = not ray.is_initialized()
        if self._joined:
            _connect(self._address)
        self._nodes: list[RayNode] = []
        self._heartbeat = Heartbeat(cfg.cluster.deadman_s, lambda: [node.agent for node in self._nodes])
        try:
            self._nodes = [RayNode(entry, cfg.cluster.deadman_s) for entry in _wanted(_entries(), cfg.cluster.leave_out)]
            _probe(self._nodes)
        except BaseException:
            self.close()
            raise
        self.nodes: Sequence[Node] = tuple(self._nodes)

    def start(self, actors: int) -> None:
        """It has started."""

    def refresh(self) -> None:
        """As in `Cluster`."""
        self._nodes = [node for node in self._nodes if node.alive()] or self._nodes
        self.nodes = tuple(self._nodes)

    def close(self) -> None:
        """As in `Cluster`. A Ray that was there before (a job's, a launcher's) goes on."""
        self._heartbeat.stop()
        for node in self._nodes:
            node.close()
        self._nodes = []
        if self._joined:
            ray.shutdown()


CLUSTERS: dict[str, Any] = {"local": Local, "existing": Existing}


def _keeper_of(folder: str) -> Keeper:
    """The keeper of a session's folder. Raises ConfigError; then the folder is gone."""
    try:
        return Keeper("folder", folder=folder)
    except (OSError, Refused) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ConfigError([f"the process that cleans up after a run cannot be started: {error}"]) from None


def _connect(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(
            [
                f"cluster.address={address} cannot be reached: {_first_line(error)}; give the address and port of a Ray head "
                "node that answers from here, with the RAY_AUTH_MODE and token it was started with"
            ]
        ) from None
    stop_on_signals()
    keep_off_stdout()


def _entries() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return entries


def _wanted(entries: Sequence[dict[str, Any]], leave_out: Sequence[str]) -> list[dict[str, Any]]:
    """The nodes that are alive and not left out, in an order that does not change. Raises ConfigError."""
    alive = sorted((one for one in entries if one["Alive"]), key=lambda one: (one["NodeManagerAddress"], one["NodeID"]))
    problems = []
    for name in leave_out:
        if not any(_is_named(one, name) for one in alive):
            known = ", ".join(f"{one['NodeManagerHostname']} ({one['NodeManagerAddress']})" for one in alive)
            problems.append(f"cluster.leave_out names {name}, and no node is called so: there are {known}")
    kept = [one for one in alive if not any(_is_named(one, name) for name in leave_out)]
    if not kept and not problems:
        problems.append("cluster.leave_out leaves no node: name fewer")
    if problems:
        raise ConfigError(problems)
    return kept


def _is_named(entry: dict[str, Any], name: str) -> bool:
    exact = (entry["NodeManagerHostname"], entry["NodeManagerAddress"])
    return name in exact or (len(name) >= 8 and entry["NodeID"].startswith(name))


def _probe(nodes: Sequence[RayNode]) -> None:
    """Ask each node what it can do. Raises ConfigError with every node that did not answer."""
    tell_apart(nodes)
    problems = list(_unfit(nodes))
    if problems:
        raise ConfigError(problems)


def _unfit(nodes: Sequence[RayNode]) -> Iterator[str]:
    for node in nodes:
        try:
            node.probe()
        except (RayError, GetTimeoutError) as error:
            yield (
                f"node {node.name} ({node.address}) cannot be asked what it can do: {_last_line(error)}; install this package "
                f"there, or leave it out: cluster.leave_out=[{node.address}]"
            )
            continue
        if node.version != package_version():
            yield (
                f"node {node.name} ({node.address}) has version {node.version} of this package and the driver has "
                f"{package_version()}: install the same, or leave it out: cluster.leave_out=[{node.address}]"
            )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _last_line(error: BaseException) -> str:
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1]
