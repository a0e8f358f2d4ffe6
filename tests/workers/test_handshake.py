"""The handshake against real peers on a real socket: what is published is understood, what is wrong is refused by name."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable

import pytest

from tests import needs
from tests.workers.peers import PAGE, REGION, connect, entry, message, refusal
from workers import _native
from workers.protocol.acceptor import Acceptor
from workers.protocol.handshake import HandshakeError, Region, parse_extras, send


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


def test_a_silent_peer_is_refused_and_disturbs_no_other(acceptor: Acceptor, vmm: _native.Vmm) -> None:
    with connect(acceptor):
        [(uffd, regions)] = vmm.userfaultfds()
        with connect(acceptor) as peer:
            socket.send_fds(peer, [message(regions[0])], [uffd])
            acceptor.wait_for(1)
        assert acceptor.refused == [], "the good peer had to wait for the silent one's time-out"
        assert "timed out before a message" in refusal(acceptor)


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
        with pytest.raises(HandshakeError, match=r"0 of 2 userfaultfds arrived within 2 s; refused: pid \d+: expected a JSON"):
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


def second_message(vmm: int = 0) -> bytes:
    return json.dumps({"magic": "uffd-loadgen", "version": 1, "vmm": vmm, "shard": 0}).encode()


def test_a_vmm_process_of_ours_that_is_held_up_between_its_messages_is_still_one_of_ours(
    acceptor: Acceptor, vmm: _native.Vmm
) -> None:
    [(uffd, regions)] = vmm.userfaultfds()
    with connect(acceptor) as late:
        socket.send_fds(late, [message(regions[0])], [uffd])
        [connection] = acceptor.wait_for(1)
        assert connection.vmm == -1  # not yet known to be ours
        socket.send_fds(late, [second_message()], [vmm.record_fd, vmm.faults_fd])
        [connection] = acceptor.wait_for_vmms(1, 1)
        assert os.fstat(connection.record_fd).st_ino == os.fstat(vmm.record_fd).st_ino
    assert acceptor.refused == []


def test_a_foreign_vmm_that_goes_away_is_not_refused_and_one_that_goes_on_talking_is_served_as_it_is(
    acceptor: Acceptor, vmm: _native.Vmm
) -> None:
    [(uffd, regions)] = vmm.userfaultfds()
    with connect(acceptor) as quiet:
        socket.send_fds(quiet, [message(regions[0])], [uffd])
        acceptor.wait_for(1)
    with connect(acceptor) as talker:
        socket.send_fds(talker, [message(regions[0])], [uffd])
        acceptor.wait_for(2)
        talker.sendall(b'{"more": 1}')
        assert "lacks our magic; it is served as a VMM that is not ours" in refusal(acceptor)
    assert [connection.vmm for connection in acceptor.wait_for(2)] == [-1, -1]


@pytest.mark.parametrize("which", ["page record", "fault records"])
def test_a_memfd_that_its_peer_could_truncate_later_is_refused(which: str, acceptor: Acceptor, vmm: _native.Vmm) -> None:
    [(uffd, regions)] = vmm.userfaultfds()
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 1 << 20)
    fds = [unsealed, vmm.faults_fd] if which == "page record" else [vmm.record_fd, unsealed]
    with connect(acceptor) as peer:
        socket.send_fds(peer, [message(regions[0])], [uffd])
        socket.send_fds(peer, [second_message()], fds)
        assert f"the memfd of the {which} can be truncated: seal it with F_SEAL_SHRINK" in refusal(acceptor)
    os.close(unsealed)


def test_a_second_message_without_a_memfd_is_refused(acceptor: Acceptor, vmm: _native.Vmm) -> None:
    [(uffd, regions)] = vmm.userfaultfds()
    with open("/dev/null") as other, connect(acceptor) as peer:
        socket.send_fds(peer, [message(regions[0])], [uffd])
        socket.send_fds(peer, [second_message()], [other.fileno(), vmm.faults_fd])
        assert "the descriptor of the page record is no memfd" in refusal(acceptor)


def test_no_memfd_of_ours_can_be_truncated(vmm: _native.Vmm) -> None:
    for descriptor in (vmm.record_fd, vmm.faults_fd):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 1)


def hand_over(acceptor: Acceptor, vmm: _native.Vmm, number: int, shard: int = 0) -> socket.socket:
    [(uffd, regions)] = vmm.userfaultfds()
    return send(
        acceptor.path,
        uffd,
        [Region(**regions[0])],
        vmm=number,
        shard=shard,
        record_fd=vmm.record_fd,
        faults_fd=vmm.faults_fd,
    )


def test_vmm_processes_come_in_any_order_and_foreign_ones_are_left_aside(acceptor: Acceptor, vmm: _native.Vmm) -> None:
    [(uffd, regions)] = vmm.userfaultfds()
    with connect(acceptor) as foreign, hand_over(acceptor, vmm, 1), hand_over(acceptor, vmm, 0):
        socket.send_fds(foreign, [message(regions[0])], [uffd])
        acceptor.wait_for(3)
        assert [connection.vmm for connection in acceptor.wait_for_vmms(2, 1)] == [0, 1]


def test_the_vmm_process_that_is_missing_is_named(vmm: _native.Vmm) -> None:
    acceptor = Acceptor(PAGE, REGION, timeout_s=0.5)
    [(uffd, regions)] = vmm.userfaultfds()
    with connect(acceptor) as foreign, hand_over(acceptor, vmm, 0), hand_over(acceptor, vmm, 2):
        socket.send_fds(foreign, [message(regions[0])], [uffd])
        acceptor.wait_for(3)
        with pytest.raises(HandshakeError, match=r"2 of 4 .* missing from VMM processes 1, 3; 1 came from .* not ours"):
            acceptor.wait_for_vmms(4, 1)
    acceptor.close()


def test_a_vmm_process_that_hands_the_same_userfaultfd_over_twice_is_refused(acceptor: Acceptor, vmm: _native.Vmm) -> None:
    with hand_over(acceptor, vmm, 0):
        acceptor.wait_for(1)
        before = len(os.listdir("/proc/self/fd"))
        with hand_over(acceptor, vmm, 0):
            assert "VMM process 0 handed its userfaultfd 0 over before" in refusal(acceptor)
    assert len(os.listdir("/proc/self/fd")) == before - 1  # `with` closed the good peer's own end, nothing else changed


def as_uid(uid: int, action: Callable[[], None]) -> int:
    """Exit code of a child that does `action` as `uid`."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(uid)
            os.setuid(uid)
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs.ROOT
@pytest.mark.parametrize(
    ("allowed", "reason"),
    [(65_534, "expected a JSON array"), (65_533, "uid 65534 may not connect; name it in page_server.allow_uids")],
)
def test_only_users_that_were_named_are_listened_to(allowed: int, reason: str) -> None:
    acceptor = Acceptor(PAGE, REGION, allow_uids=(allowed,), timeout_s=2.0)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:

            def talk() -> None:
                peer.connect(acceptor.path)
                with contextlib.suppress(BrokenPipeError):  # refused for its uid before it said anything
                    peer.send(b"{}")

            assert as_uid(65_534, talk) == 0
            assert reason in refusal(acceptor)
    finally:
        acceptor.close()


def test_without_other_users_the_socket_is_in_a_directory_of_our_own(acceptor: Acceptor) -> None:
    assert os.stat(os.path.dirname(acceptor.path)).st_mode & 0o777 == 0o700
