"""Descriptors, refusals and peers of the page server's socket stay within bounds, and its end waits for none."""

from __future__ import annotations

import json
import os
import resource
import socket
import tempfile
import threading
from pathlib import Path

import pytest

from tests.wait import wait_for
from tests.workers.peers import PAGE, REGION, connect, entry, message, refusal
from workers.protocol.acceptor import KEPT_REFUSALS, Acceptor
from workers.protocol.handshake import HandshakeError


@pytest.mark.parametrize("count", [2, 20])
def test_more_than_one_descriptor_is_refused_and_every_one_closed(acceptor: Acceptor, count: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open("/dev/null") as other, connect(acceptor) as peer:
        socket.send_fds(peer, [message(entry())], [other.fileno()] * count)
        assert "expected one descriptor with the regions, got" in refusal(acceptor)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_surplus_descriptor_is_refused_when_it_arrives_not_when_the_message_is_whole() -> None:
    acceptor = Acceptor(PAGE, REGION, timeout_s=3600.0)
    before = len(os.listdir("/proc/self/fd"))
    with open("/dev/null") as other, connect(acceptor) as peer:
        for byte in b"[{":
            socket.send_fds(peer, [bytes([byte])], [other.fileno()])
        assert "expected one descriptor with the regions, got more" in refusal(acceptor)
    wait_for(lambda: len(os.listdir("/proc/self/fd")) == before, "its descriptors closed", 5)
    acceptor.close()


def test_what_is_kept_of_refused_peers_is_bounded(acceptor: Acceptor) -> None:
    long = "x" * 60_000
    with connect(acceptor) as peer:
        peer.sendall(json.dumps([{"base_host_virt_addr": long}]).encode())
    for _ in range(KEPT_REFUSALS + 3):
        with connect(acceptor) as peer:
            peer.sendall(b"{}")
    wait_for(lambda: acceptor.refused[-1:] == ["4 more were refused"], "the last refusal", 10)
    assert len(acceptor.refused) == KEPT_REFUSALS + 1
    assert max(len(reason) for reason in acceptor.refused) <= 400


def test_a_peer_beyond_the_most_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.protocol.acceptor.MAX_PEERS", 2)
    acceptor = Acceptor(PAGE, REGION, timeout_s=3600.0)
    with connect(acceptor), connect(acceptor), connect(acceptor):
        assert refusal(acceptor) == "more than 2 peers at once"
        acceptor.close()


def test_closing_does_not_wait_for_a_silent_peer() -> None:
    acceptor = Acceptor(PAGE, REGION, timeout_s=3600.0)  # its half is how long the peer may stay silent
    with connect(acceptor) as peer:
        peer.sendall(b"[")
        wait_for(lambda: any(thread.name == "handshake peer" for thread in threading.enumerate()), "the peer's thread")
        acceptor.close()
        acceptor.close()
        assert "closed before the handshake was over" in refusal(acceptor)
    assert not os.path.exists(os.path.dirname(acceptor.path))


def test_an_acceptor_that_cannot_be_made_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    too_long = tmp_path / ("x" * 100)  # a Unix socket's path has 108 bytes
    too_long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(too_long))
    with pytest.raises(OSError, match="too long"):
        Acceptor(PAGE, REGION)
    assert list(too_long.iterdir()) == []


def test_descriptors_past_1024_are_served() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"the hard limit of descriptors is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        acceptor = Acceptor(PAGE, REGION, timeout_s=2.0)
        with connect(acceptor) as peer:
            assert peer.fileno() > 1024
            peer.sendall(b"{}")
            assert "expected a JSON array" in refusal(acceptor)
        acceptor.close()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_page_server_out_of_descriptors_says_so_and_takes_the_peer_later(acceptor: Acceptor) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        resource.setrlimit(resource.RLIMIT_NOFILE, (peer.fileno() + 1, hard))
        try:
            peer.connect(acceptor.path)
            assert "not accepted for now: [Errno 24]" in refusal(acceptor)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        peer.sendall(b"}")
        with pytest.raises(HandshakeError, match="malformed JSON"):
            acceptor.wait_for(1)
