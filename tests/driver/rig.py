"""A run on fake actors: two VMM processes and a page server, a data set, and what the run left in it."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from omegaconf import DictConfig

from loadgen.cluster import answers
from loadgen.host.probe import Host
from loadgen.plan.guests_over_hosts import plan_guests
from loadgen.run import measuring
from loadgen.run.run import run_guests
from results.derive import trust
from results.store.dataset import DataSet
from tests.driver.fake_ray import FakeRay
from tests.driver.fakes import Actor, FakeNode, FakeServer, FakeSession, FakeVcpu


class Rig:
    """Two VMM processes and a page server, a data set, and what the run left in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, configure: Callable[..., DictConfig], host: Host) -> None:
        self.configure, self.host = configure, host
        self.journal: list[str] = []
        self.server = FakeServer(self.journal)
        self.vcpus = [FakeVcpu(number, 10 + number, self.journal) for number in range(2)]
        self.server.vcpus = self.vcpus
        self.nodes = [FakeNode("here", host)]
        self.session = FakeSession(self.nodes, [(self.server, self.vcpus)])
        self.dataset = DataSet.open(str(folder / "dataset"))
        self.ray = FakeRay()
        self.looks: list[dict[str, Any]] = []
        monkeypatch.setattr(ray, "get", self.ray.get)
        monkeypatch.setattr(ray, "wait", self.ray.wait)
        monkeypatch.setattr(measuring, "POLL_S", 0.0)
        monkeypatch.setattr(answers, "monotonic", self.ray.monotonic)
        # How busy this machine is while a test runs is no matter of the seam; test_self_watch.py is about it.
        monkeypatch.setattr(trust, "JUDGED_FROM_S", math.inf)
        monkeypatch.setattr(trust, "MOST_LAG_S", math.inf)

    def run(self, *overrides: str) -> dict[str, Any]:
        cfg = self.configure("sweep_id=sweep", "vcpus=2", "watchdog_s=1", *overrides)
        planned = plan_guests(cfg, [node.host for node in self.nodes])
        run_guests(self.session, planned, self.dataset, self.looks.append)  # type: ignore[arg-type]
        return self.row()

    def row(self) -> dict[str, Any]:
        [row] = self.dataset.read("runs").to_pylist()
        return row

    def add_guest(self, node: str, records: int) -> FakeServer:
        """One more guest of two VMM processes, on a host of its own."""
        name = f"server{len(self.session.guests)}"
        server = FakeServer(self.journal)
        server.name = name
        server.vcpus = [FakeVcpu(number, records, self.journal) for number in range(2)]
        self.nodes.append(FakeNode(node, self.host))
        self.session.guests.append((server, server.vcpus))
        return server

    def unended(self, *waits: Callable[[], None]) -> None:
        """vCPUs that do not end by themselves; what happens in each wait of the driver."""
        for vcpu in self.vcpus:
            vcpu.ended = False
        self.ray.waits = list(waits)

    def end(self) -> None:
        for vcpu in self.vcpus:
            vcpu.ended = True

    def freeze(self, actor: Actor, step: str) -> None:
        """The actor answers nothing from this step on."""
        actor.freezes_at = step


def interrupt() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been ignored as the tests were started
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def nothing() -> None:
    pass
