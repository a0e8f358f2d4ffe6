"""The two ends of a handshake, and a place for snapshots."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

from tests.workers.peers import PAGE, REGION
from workers import _native
from workers.protocol.acceptor import Acceptor


@pytest.fixture(scope="module")
def snapshots_removed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Snapshots lie in the temporary folder of the process until it ends: here one that ends with the file."""
    tmp_path_factory.getbasetemp()  # before, or pytest's own folder would lie in it
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="") as folder:
        tempfile.tempdir = folder
        yield
        tempfile.tempdir = before


@pytest.fixture
def acceptor() -> Iterator[Acceptor]:
    made = Acceptor(PAGE, REGION, timeout_s=2.0)
    yield made
    made.close()
    assert not os.path.exists(made.path)


@pytest.fixture
def vmm() -> Iterator[_native.Vmm]:
    guest = _native.Guest({"region_bytes": REGION, "seed": 1})
    yield _native.Vmm(guest, {"strategy": "uffd_wait", "record_capacity": 64})
