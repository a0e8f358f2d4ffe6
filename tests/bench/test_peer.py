"""The bench's peer: found or left out by name, and its output understood."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench import cases_peer, peer
from tests.bench.lines import Asked
from tests.bench.peer import HOW_TO_GET_IT, VARIABLE, PeerShape, newest_source, pages_per_s

needs_kvm = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm cannot be used")


def program(folder: Path, says: str, status: int = 0) -> Path:
    path = folder / "demand_paging_test"
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_the_newest_source_that_has_the_options_is_taken(tmp_path: Path) -> None:
    for version in ("6.1", "6.9", "6.12", "6.11"):
        (tmp_path / f"linux-source-{version}.tar.xz").touch()
    assert newest_source(tmp_path) == tmp_path / "linux-source-6.12.tar.xz"


def test_the_source_of_a_release_without_the_options_is_none(tmp_path: Path) -> None:
    (tmp_path / "linux-source-6.1.tar.xz").touch()
    assert newest_source(tmp_path) is None


@needs_kvm
def test_without_the_peer_its_case_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(peer, "newest_source", lambda: None)
    [line] = cases_peer.demand_paging_test(Asked(pairs=2, seconds=0.1, quick=True, build=tmp_path))
    assert (line.case, line.measure, line.met, line.note) == ("demand_paging_test", "left out", None, HOW_TO_GET_IT)


def test_a_named_peer_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(RuntimeError, match="nothing is no program that can be run"):
        peer.peer(tmp_path)


def test_the_rate_is_the_one_of_all_vcpus(tmp_path: Path) -> None:
    said = "Per-vcpu demand paging rate:\t5381.0 pgs/sec/vcpu\nOverall demand paging rate:\t43048.25 pgs/sec"
    assert pages_per_s(program(tmp_path, said), PeerShape(vcpus=8, mib_per_vcpu=64)) == 43048.25


def test_a_peer_that_prints_no_rate_or_fails_is_an_error_in_its_own_words(tmp_path: Path) -> None:
    shape = PeerShape(vcpus=1, mib_per_vcpu=1)
    with pytest.raises(RuntimeError, match=r"printed no overall rate \(it needs -a and -r, Linux 6.10\): usage"):
        pages_per_s(program(tmp_path, "usage"), shape)
    with pytest.raises(RuntimeError, match="failed:\nvcpu_run failed"):
        pages_per_s(program(tmp_path, "vcpu_run failed", status=1), shape)


@needs_kvm
def test_each_strategy_is_set_beside_the_peer_with_its_vcpus_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = program(tmp_path, "")
    named.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\necho "Overall demand paging rate: 1.0 pgs/sec"\n')
    monkeypatch.setenv(VARIABLE, str(named))
    monkeypatch.setattr(cases_peer, "VCPUS", (1,))
    lines = list(cases_peer.demand_paging_test(Asked(pairs=2, seconds=0.1, quick=True, build=tmp_path)))
    assert [line.measure for line in lines] == [
        f"{strategy} a fault, 1 vCPU, 1 reader"
        for strategy in ("uffd_wait, 1 page", "no_uffd_wait, 1 page", "no_uffd_wait, 8 pages")
    ]
    assert [line.met for line in lines] == [True, True, None]  # anything is faster than a page a second
    assert set((tmp_path / "asked").read_text().splitlines()) == {"-u MINOR -s shmem -a -v1 -r1 -b8M"}
