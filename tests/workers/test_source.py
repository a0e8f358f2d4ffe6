"""The Source actor's class, snapshots and the command `loadgen-source`; the protocol itself has native tests."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import specs
from tests.workers.test_actors import SPEC, run
from workers.page_server import PageServer
from workers.protocol.source_address import join_address, split_address
from workers.source import Source
from workers.spec import RunSpec, SourceSpec
from workers.vcpu import Vcpu

ABSENT = dataclasses.replace(SPEC, fault_mix=specs.fault_mix(absent=1.0))


def fed_by(spec: SourceSpec) -> RunSpec:
    return dataclasses.replace(ABSENT, source=spec)


def guest(spec: RunSpec) -> dict[str, int]:
    """Run it with every page checked; what the source sent."""
    server, vcpus = PageServer(), [Vcpu() for _ in range(spec.vmms)]
    try:
        report, reports = run(spec, server, vcpus)
        assert sum(row["wrong_words"] for one in reports for row in one.vcpus) == 0
        assert all(vcpu.verify()["wrong_words"] == 0 for vcpu in vcpus)
        return report.source
    finally:
        for vcpu in vcpus:
            vcpu.close()
        server.close()


def test_a_source_serves_run_after_run_from_memory_it_keeps() -> None:
    source = Source()
    spec = fed_by(specs.source(name="remote", seed=5, connections=2))
    address = source.open(spec)
    for _ in range(2):
        assert source.open(spec) == address
        counts = guest(dataclasses.replace(spec, source=dataclasses.replace(spec.source, address=address)))
        assert counts["on_demand"] == spec.memory.pages
    assert source.served()["pages"] == 2 * spec.memory.pages
    other = fed_by(specs.source(name="remote", seed=6))
    assert source.open(other) != address
    source.close()
    source.close()
    assert source.served() == {}


def test_a_page_server_names_the_source_it_cannot_reach_or_that_holds_something_else() -> None:
    source = Source()
    address = source.open(fed_by(specs.source(name="remote", seed=5)))
    with pytest.raises(ValueError, match=r"the source at 127.0.0.1:\d+ cannot be used: it refused: it holds contents of seed 5"):
        guest(fed_by(specs.source(name="remote", seed=6, address=address)))
    source.close()
    with pytest.raises(ValueError, match=r"the source at 127.0.0.1:\d+ cannot be used: connect: Connection refused"):
        guest(fed_by(specs.source(name="remote", seed=5, address=address)))


@pytest.mark.parametrize("cache", ["warm", "cold"])
def test_a_snapshot_of_our_own_is_written_when_none_is_given(cache: str, short_path: Path) -> None:
    server = PageServer()
    for seed in (1, 2):
        spec = fed_by(specs.source(name="file", seed=seed, cache=cache))
        vcpus = [Vcpu() for _ in range(spec.vmms)]
        report, _ = run(spec, server, vcpus)
        assert report.source == {}
        assert report.counters["fetched_pages"] == spec.memory.pages
        assert all(vcpu.verify()["wrong_words"] == 0 for vcpu in vcpus)
        for vcpu in vcpus:
            vcpu.close()
        [own] = short_path.glob("snapshot-*")
        assert own.stat().st_size == spec.memory.region_bytes
    server.close()


def test_a_snapshot_that_does_not_hold_the_runs_memory_is_refused_and_a_changed_one_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    command(tmp_path, "--snapshot", str(path), "--region-mib", "4", "--seed", "9").communicate(timeout=30)
    guest(fed_by(specs.source(name="file", seed=9, file=str(path))))
    with pytest.raises(
        ValueError, match=r"does not hold the contents of seed 8 \(page 0, word 0 differs\): .*use source.contents=file"
    ):
        guest(fed_by(specs.source(name="file", seed=8, file=str(path))))
    server = PageServer()
    server.open(fed_by(specs.source(name="file", seed=9, file=str(path))))
    with path.open("r+b") as file:
        file.seek(100 * 4096 + 8)
        file.write(b"x")
    with pytest.raises(ValueError, match=r"\(page 100, word 1 differs\)"):
        server.open(fed_by(specs.source(name="file", seed=9, file=str(path))))
    server.close()


def test_a_cold_snapshot_in_memory_is_refused_for_what_it_is() -> None:
    path = Path(f"/dev/shm/uffd-loadgen-test-{os.getpid()}")
    if not path.parent.is_dir():
        pytest.skip("/dev/shm is not there")
    command(Path("/"), "--snapshot", str(path), "--region-mib", "4", "--seed", "1").communicate(timeout=30)
    try:
        with pytest.raises(
            ValueError, match=r"source.cache=cold, but 1024 pages of the snapshot .* put it on a disk's file system"
        ):
            guest(fed_by(specs.source(name="file", seed=1, file=str(path), cache="cold")))
    finally:
        path.unlink()


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "loadgen-source"), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_serves_until_a_signal_and_prints_what_it_served(tmp_path: Path) -> None:
    process = command(tmp_path, "--listen", "127.0.0.1:0", "--region-mib", "4", "--seed", "5")
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    assert guest(fed_by(specs.source(name="remote", seed=5, address=address)))["on_demand"] == 1024
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out == "served 1024 pages on demand and 0 pushed; refused 0\n"


def test_the_command_refuses_in_a_line(tmp_path: Path) -> None:
    for arguments, text in (
        (["--listen", "here"], "'here' is no HOST:PORT"),
        (["--listen", "192.0.2.1:1"], "bind of the source's socket"),
        (["--snapshot", "/nowhere/file"], "making the snapshot /nowhere/file.part: No such file"),
    ):
        process = command(tmp_path, *arguments, "--region-mib", "1")
        _, err = process.communicate(timeout=30)
        assert process.returncode == 1
        assert text in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "parts"), [("a.b:7", ("a.b", 7)), ("10.0.0.1:65535", ("10.0.0.1", 65535)), ("[::1]:80", ("::1", 80))]
)
def test_addresses_are_read_and_written_alike(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts
    assert join_address(*parts) == text


@pytest.mark.parametrize("text", ["", "here", "here:", ":80", "here:65536", "::1:80", "a b:1", "[::1]", "here:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no HOST:PORT"):
        split_address(text)


frames = st.builds(
    lambda magic, version, kind, size, count, number, first, payload: (
        struct.pack("<IHHIIQQ", magic, version, kind, size, count, number, first) + payload
    ),
    st.sampled_from([0x53474C55, 0, 0xFFFFFFFF]),
    st.sampled_from([1, 1, 1, 2]),
    st.integers(0, 9),
    st.sampled_from([0, 1, 32, 128, 4096, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 16, 512, 513, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 2**64 - 1]),
    st.sampled_from([0, 1, 1023, 1024, 2**64 - 1]),
    st.binary(max_size=200),
)
hello = struct.pack("<IHHIIQQ", 0x53474C55, 1, 1, 32, 0, 0, 0) + struct.pack("<QQQQ", 1, 4 << 20, 4096, 5)


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(st.one_of(frames, st.binary(min_size=1, max_size=100)), max_size=6))
def test_whatever_peers_send_the_source_serves_on(greeted: bool, pieces: list[bytes]) -> None:
    address = _shared_source()
    host, port = split_address(address)
    with socket.create_connection((host, port), timeout=5) as peer:
        try:
            if greeted:
                peer.sendall(hello)
                assert len(receive(peer, 32)) == 32
            for piece in pieces:
                peer.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
    with socket.create_connection((host, port), timeout=5) as peer:  # one that behaves
        peer.sendall(hello + struct.pack("<IHHIIQQ", 0x53474C55, 1, 4, 0, 1, 7, 1023))
        answer = receive(peer, 32 + 32 + 4096)
        assert len(answer) == 32 + 32 + 4096
        assert struct.unpack_from("<IHHIIQQ", answer, 32) == (0x53474C55, 1, 5, 4096, 1, 7, 1023)


def receive(peer: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer at the end of the stream."""
    received = b""
    while len(received) < size and (piece := peer.recv(size - len(received))):
        received += piece
    return received


_shared: list[tuple[Source, str]] = []


def _shared_source() -> str:
    """Where it is. One source for every input of the fuzz test: what one peer did must not be felt by the next."""
    if not _shared:
        source = Source()
        _shared.append((source, source.open(fed_by(specs.source(name="remote", seed=5)))))
    return _shared[0][1]


@pytest.fixture(scope="module", autouse=True)
def _ended() -> Iterator[None]:
    yield
    while _shared:
        _shared.pop()[0].close()
