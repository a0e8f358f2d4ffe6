"""What the host must have for a test is set up here and put back."""

from __future__ import annotations

import fcntl
import gc
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from loadgen.host.changes import HostChanges
from tests import needs
from tests.e2e.command import remove_temporary
from workers.spec import SwapSpec

NR_HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
RESERVED = 32
FIRST = ("cluster/test_network.py", "cluster/test_launchers.py", "cluster/", "native/test_native.py", "package/", "e2e/")
"""What takes longest, in this order: none of it is alone at the end, when other files have no test left to run beside it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files by FIRST."""
    items.sort(key=lambda item: next((at for at, one in enumerate(FIRST) if f"tests/{one}" in item.nodeid), len(FIRST)))


def pytest_collection_finish() -> None:
    """Thousands of collected tests are not looked through again by each collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test is a failed one where nothing may be skipped."""
    report = yield
    if report.skipped and needs.NO_SKIPS in os.environ:
        report.outcome = "failed"
        report.longrepr = f"{needs.NO_SKIPS} is set, and this was skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _drivers_folder_removed() -> Iterator[None]:
    yield
    remove_temporary()


@pytest.fixture
def short_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new temporary folder that others are made in, with room for the name of a Unix socket in its path."""
    with tempfile.TemporaryDirectory(prefix="") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


@pytest.fixture(scope="module")
def host_alone() -> Iterator[None]:
    """No other test changes the host, or counts what is left of it, until the end of this file: tests run side by side."""
    folder = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@pytest.fixture(scope="module")
def zram(host_alone: None) -> Iterator[None]:
    """Swap of 32 MiB."""
    needs.root()
    changes = HostChanges()
    changes.keep(SwapSpec("zram", 32 << 20, ""))
    yield
    changes.close()


@pytest.fixture(scope="module")
def huge_pages(host_alone: None) -> Iterator[int]:
    """`RESERVED` huge pages of 2 MiB; as many as before afterwards."""
    before = NR_HUGE_PAGES.read_text()
    if not os.access(NR_HUGE_PAGES, os.W_OK):
        pytest.skip(f"{RESERVED} huge pages cannot be reserved: run as root, or `sysctl vm.nr_hugepages={RESERVED}`")
    NR_HUGE_PAGES.write_text(str(int(before) + RESERVED))
    try:
        assert int(NR_HUGE_PAGES.read_text()) >= RESERVED, "the kernel could not find the huge pages"
        yield RESERVED
    finally:
        NR_HUGE_PAGES.write_text(before)


@pytest.fixture
def group() -> Iterator[Callable[[str, dict[str, str]], Path]]:
    """A new version 1 group of a controller, with what is written into its files; removed afterwards."""
    made: list[Path] = []

    def make(controller: str, values: dict[str, str]) -> Path:
        parent = Path("/sys/fs/cgroup") / controller
        if os.geteuid() != 0 or not (parent / "cgroup.procs").exists():
            pytest.skip(f"no version 1 control group of {controller} can be made here")
        folder = parent / f"uffd-loadgen-test-{os.getpid()}"
        folder.mkdir()
        made.append(folder)
        for name, value in values.items():
            (folder / name).write_text(value)
        return folder

    yield make
    for folder in made:
        folder.rmdir()
