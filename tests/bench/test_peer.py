"""The bench's peer: found or left out by name, and its output understood."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import needs
from tests.bench import cases_peer, peer
from tests.bench.bare import COMPILE, HERE
from tests.bench.lines import Asked
from tests.bench.peer import HOW_TO_GET_IT, VARIABLE, PeerRate, PeerShape, counter, newest_source, rate_of


def program(folder: Path, says: str, status: int = 0, more: str = "true") -> Path:
    path = folder / "demand_paging_test"
    path.write_text(f"#!/bin/sh\necho '{says}'\n{more}\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_the_newest_source_that_has_the_options_is_taken(tmp_path: Path) -> None:
    for version in ("6.1", "6.9", "6.12", "6.11"):
        (tmp_path / f"linux-source-{version}.tar.xz").touch()
    assert newest_source(tmp_path) == tmp_path / "linux-source-6.12.tar.xz"


def test_the_source_of_a_release_without_the_options_is_none(tmp_path: Path) -> None:
    (tmp_path / "linux-source-6.1.tar.xz").touch()
    assert newest_source(tmp_path) is None


@needs.KVM
def test_without_the_peer_its_case_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(peer, "newest_source", lambda: None)
    [line] = cases_peer.demand_paging_test(Asked(pairs=2, seconds=0.1, quick=True, build=tmp_path))
    assert (line.case, line.measure, line.met, line.note) == ("demand_paging_test", "left out", None, HOW_TO_GET_IT)


def test_a_named_peer_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(RuntimeError, match="nothing is no program that can be run"):
        peer.peer(tmp_path)


STRATEGIES = (
    "uffd_wait, 1 page a fault, in kernel",
    "no_uffd_wait, 1 page a fault, in kernel",
    "no_uffd_wait, 8 pages a fault, in user",
)
PAGED = "echo 'UFFDIO_CONTINUE: 256 pages' >&2"


def test_of_the_printed_rate_only_pages_that_a_reader_resolved_count(tmp_path: Path) -> None:
    said = "Per-vcpu demand paging rate:\t5381.0 pgs/sec/vcpu\nOverall demand paging rate:\t43048.0 pgs/sec"
    named = program(tmp_path, said, more=PAGED)
    found = rate_of(named, counter(tmp_path), PeerShape(vcpus=8, mib_per_vcpu=1, single=True))
    assert found == PeerRate(printed=43048.0, resolved=5381.0)


RESOLVING = """
#include "bare.hpp"
int main() {
  const int fd = bare::must(static_cast<int>(syscall(SYS_memfd_create, "peer", MFD_CLOEXEC)), "memfd_create");
  bare::must(ftruncate(fd, 64 * bare::kPage), "ftruncate");
  char* alias = bare::map(fd, 64 * bare::kPage);
  bare::fill(alias, 64, 1);
  const bare::View view = bare::registered(fd, 64 * bare::kPage, 0);
  for (unsigned page = 0; page < 64; ++page) view.install(page, 0);
  view.install(0, 0);  // EEXIST: not resolved once more
  std::puts("Overall demand paging rate: 256.0 pgs/sec");
}
"""


def test_pages_that_a_program_resolves_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "resolving.cpp"
    source.write_text(RESOLVING)
    named = tmp_path / "demand_paging_test"
    subprocess.run([*COMPILE, f"-I{HERE / 'bare'}", str(source), "-o", str(named)], check=True)
    found = rate_of(named, counter(tmp_path), PeerShape(vcpus=1, mib_per_vcpu=1, single=True))
    assert found == PeerRate(printed=256.0, resolved=64.0)


def test_a_peer_that_prints_no_rate_or_resolves_nothing_or_fails_is_an_error_in_its_own_words(tmp_path: Path) -> None:
    shape, counting = PeerShape(vcpus=1, mib_per_vcpu=1, single=True), counter(tmp_path)
    with pytest.raises(RuntimeError, match=r"printed no overall rate \(it needs -a and -r, Linux 6.10\): usage"):
        rate_of(program(tmp_path, "usage"), counting, shape)
    with pytest.raises(RuntimeError, match="resolved no page that could be counted"):
        rate_of(program(tmp_path, "Overall demand paging rate: 1.0 pgs/sec"), counting, shape)
    with pytest.raises(RuntimeError, match="failed:\nvcpu_run failed"):
        rate_of(program(tmp_path, "vcpu_run failed", status=1), counting, shape)


@needs.KVM
def test_each_strategy_is_set_beside_the_peer_with_its_vcpus_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = program(tmp_path, "Overall demand paging rate: 1.0 pgs/sec", more=f'{PAGED}; echo "$@" >>{tmp_path}/asked')
    monkeypatch.setenv(VARIABLE, str(named))
    monkeypatch.setattr(cases_peer, "VCPUS", (1, 2))
    lines = list(cases_peer.demand_paging_test(Asked(pairs=2, seconds=0.1, quick=True, build=tmp_path)))
    assert [line.measure for line in lines] == [
        f"{strategy} mode, {beside}"
        for beside in ("1 vCPU, one userfaultfd", "2 vCPUs, one userfaultfd", "2 vCPUs, a userfaultfd each")
        for strategy in STRATEGIES
    ]
    assert [line.met for line in lines] == [True, True, None] * 3  # anything is faster than a page a second
    assert set((tmp_path / "asked").read_text().splitlines()) == {
        "-u MINOR -s shmem -a -r1 -v1 -b8M",
        "-u MINOR -s shmem -a -r2 -v2 -b8M",
        "-u MINOR -s shmem -r1 -v2 -b8M",
    }
