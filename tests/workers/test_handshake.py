"""The handshake against real peers on a real socket: what is published is understood, what is wrong is refused by name."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers import _native
from workers.handshake import Acceptor, HandshakeError, Region, parse_extras, parse_regions, send

PAGE = 4096
REGION = 64 * PAGE


def entry(**changes: object) -> dict[str, object]:
    return {"base_host_virt_addr": 1 << 40, "size": REGION, "offset": 0, "page_size": PAGE, **changes}


def message(*entries: object) -> bytes:
    return json.dumps(list(entries)).encode()


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


def connect(acceptor: Acceptor) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.connect(acceptor.path)
    return peer


def refusal(acceptor: Acceptor, seconds: float = 5.0) -> str:
    deadline = time.monotonic() + seconds
    while not acceptor.refused and time.monotonic() < deadline:
        time.sleep(0.005)
    return acceptor.refused[0] if acceptor.refused else "nothing was refused"


def test_a_vmm_process_of_ours_is_accepted_with_everything_it_sends(acceptor: Acceptor, vmm: _native.Vmm) -> None:
    [(uffd, regions)] = vmm.userfaultfds()
    with send(
        acceptor.path,
        uffd,
        [Region(**regions[0])],
        vmm=3,
        shard=1,
        record_fd=vmm.record_fd,
        faults_fd=vmm.faults_fd,
    ):
        [connection] = acceptor.wait_for(1)
    assert (connection.vmm, connection.shard) == (3, 1)
    assert connection.regions == [Region(**regions[0])]
    assert os.fstat(connection.record_fd).st_ino == os.fstat(vmm.record_fd).st_ino
    assert os.fstat(connection.faults_fd).st_ino == os.fstat(vmm.faults_fd).st_ino


def test_a_foreign_vmm_that_sends_only_the_published_message_is_accepted(acceptor: Acceptor, vmm: _native.Vmm) -> None:
    [(uffd, regions)] = vmm.userfaultfds()
    with connect(acceptor) as peer:
        socket.send_fds(peer, [message({**regions[0], "page_size_kib": 4})], [uffd])
        [connection] = acceptor.wait_for(1)
    assert (connection.vmm, connection.record_fd, connection.faults_fd) == (-1, -1, -1)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"[{", "stopped in the middle"),
        (b"}", "malformed JSON"),
        (b"{}", "expected a JSON array"),
        (b"[]", "at least one region"),
        (b"[1]", "not a JSON object"),
        (message(entry()), "expected one descriptor with the regions, got 0"),
        (message(entry(size=1 << 63)), "the guest region at"),
        (message(entry(size=True)), "size is missing or not an integer"),
        (message(entry(offset=-PAGE)), "outside 64 bits"),
        (message(entry(base_host_virt_addr=1)), "not aligned"),
        (message(entry(size=0)), "size is 0"),
        (message(entry(page_size=8192)), "the guest's is 4096"),
        (message(entry(base_host_virt_addr=(1 << 64) - PAGE)), "past 2^64"),
        (message(entry(size=2 * PAGE), entry(size=2 * PAGE, offset=2 * PAGE)), "addresses overlap"),
        (message(entry(size=2 * PAGE), entry(size=PAGE, base_host_virt_addr=1 << 41)), "offsets overlap"),
        (b"[" + b" " * 70_000, "longer than"),
    ],
)
def test_a_bad_first_message_is_refused_with_its_reason(acceptor: Acceptor, sent: bytes, reason: str) -> None:
    with connect(acceptor) as peer:
        peer.sendall(sent)
        assert reason in refusal(acceptor)


def test_a_peer_that_says_nothing_is_refused_and_hurts_nobody(acceptor: Acceptor, vmm: _native.Vmm) -> None:
    with connect(acceptor):
        [(uffd, regions)] = vmm.userfaultfds()
        started = time.monotonic()
        with connect(acceptor) as peer:
            socket.send_fds(peer, [message(regions[0])], [uffd])
            acceptor.wait_for(1)
        assert time.monotonic() - started < 0.9, "the silent peer held the good one up"
        assert "said nothing in time" in refusal(acceptor)


def test_a_peer_that_disconnects_half_way_is_refused(acceptor: Acceptor) -> None:
    with connect(acceptor) as peer:
        peer.sendall(b'[{"base_host')
    assert "disconnected half way" in refusal(acceptor)


def test_a_descriptor_that_is_no_userfaultfd_is_refused_and_closed(acceptor: Acceptor) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open("/dev/null") as other, connect(acceptor) as peer:
        socket.send_fds(peer, [message(entry())], [other.fileno()])
        assert "no userfaultfd but /dev/null" in refusal(acceptor)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_vmm_process_is_named_with_what_was_refused(acceptor: Acceptor) -> None:
    with connect(acceptor) as peer:
        peer.sendall(b"{}")
        with pytest.raises(HandshakeError, match=r"0 of 2 userfaultfds arrived within 2 s .*refused: pid \d+: expected a JSON"):
            acceptor.wait_for(2)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b'{"magic": "other"}', "magic"),
        (b'{"magic": "uffd-loadgen", "version": 2}', "version 2"),
        (b'{"magic": "uffd-loadgen", "version": 1, "vmm": -1, "shard": 0}', "from 0 on"),
    ],
)
def test_a_bad_second_message_is_refused(sent: bytes, reason: str) -> None:
    with pytest.raises(HandshakeError, match=reason):
        parse_extras(sent)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
near_regions = st.lists(
    st.fixed_dictionaries(
        {
            key: st.sampled_from([0, 1, PAGE, 2 * PAGE, REGION, 1 << 63, 1 << 64, -1, 1.5, None])
            for key in ("base_host_virt_addr", "size", "offset")
        }
        | {"page_size": st.sampled_from([PAGE, 0, 1 << 21])}
    ),
    max_size=4,
)


@settings(max_examples=2000, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        json_values.map(lambda value: json.dumps(value).encode()),
        near_regions.map(lambda value: json.dumps(value).encode()),
    )
)
def test_whatever_a_peer_sends_is_either_refused_or_lies_inside_the_guest(sent: bytes) -> None:
    try:
        regions = parse_regions(sent, PAGE, REGION)
    except HandshakeError:
        return
    for region in regions:
        assert region.size > 0
        assert region.offset + region.size <= REGION
        assert region.base_host_virt_addr % PAGE == region.size % PAGE == region.offset % PAGE == 0
