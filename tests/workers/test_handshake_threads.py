"""A peer of the page server for which the process has no thread left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.workers.test_handshake import PAGE, REGION, connect, refusal
from workers.protocol.acceptor import Acceptor

NO_STACK = 1 << 46
"""Bytes: more than a process may map, so that no thread can be started."""


@pytest.fixture
def acceptor() -> Iterator[Acceptor]:
    made = Acceptor(PAGE, REGION, timeout_s=5.0)
    yield made
    made.close()


def test_a_peer_for_which_no_thread_can_be_started_is_refused_by_name_and_the_next_one_is_served(acceptor: Acceptor) -> None:
    before = threading.stack_size(NO_STACK)
    try:
        with connect(acceptor) as peer:
            peer.settimeout(10.0)
            assert peer.recv(1) == b"", "its connection is closed, it waits for nothing"
    finally:
        threading.stack_size(before)
    assert refusal(acceptor).startswith("a thread for the peer could not be started: ")
    with connect(acceptor) as peer:
        peer.settimeout(10.0)
        peer.sendall(b"{}")
        assert peer.recv(1) == b""
    deadline = time.monotonic() + 10.0
    while len(acceptor.refused) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert "expected a JSON array" in acceptor.refused[1]
