"""Configurations composed as the command composes them, and hosts made by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from loadgen.app import config_path
from loadgen.config.command_line import quote_null
from loadgen.config.hydra_schema import register
from loadgen.host.numa import NumaNode
from loadgen.host.probe import Host
from loadgen.sweep.sweeper import register_sweeper
from tests.driver.rig import Rig

GIB = 1 << 30


@pytest.fixture(scope="session", autouse=True)
def _registered() -> None:
    register()
    register_sweeper()


@pytest.fixture
def configure() -> Iterator[Callable[..., DictConfig]]:
    GlobalHydra.instance().clear()
    with initialize_config_module(config_path().removeprefix("pkg://"), version_base="1.3"):
        yield lambda *overrides, **more: compose("config", [quote_null(override) for override in overrides], **more)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes programs of these names that do nothing, and puts them into PATH."""

    def make(*names: str) -> None:
        folder = tmp_path / "programs"
        folder.mkdir()
        for name in names:
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return make


@pytest.fixture
def host() -> Host:
    return Host(
        system="Linux",
        name="here",
        kernel="6.18.0",
        cpu_model="a CPU",
        cpus=(0, 1, 2, 3),
        memory_bytes=8 * GIB,
        free_bytes=4 * GIB,
        huge_pages_free=0,
        userfaultfd_way="device",
        userfaultfd_features=frozenset(
            {
                "SIGBUS",
                "THREAD_ID",
                "MISSING_SHMEM",
                "MINOR_SHMEM",
                "MISSING_HUGETLBFS",
                "MINOR_HUGETLBFS",
                "POISON",
                "EVENT_REMOVE",
            }
        ),
        userfaultfd_errors=(),
        clock_source="tsc",
        numa=tuple(NumaNode(n, (2 * n, 2 * n + 1), 4 * GIB, (10, 20) if n == 0 else (20, 10)) for n in (0, 1)),
        swap_bytes=0,
        swap_free_bytes=0,
        zram=True,
        root=True,
        kvm=False,
        tracefs=False,
    )


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configure: Callable[..., DictConfig], host: Host) -> Rig:
    return Rig(tmp_path, monkeypatch, configure, host)
