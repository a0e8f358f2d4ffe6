"""The two ends of a handshake."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.workers.peers import PAGE, REGION
from workers import _native
from workers.protocol.acceptor import Acceptor


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
