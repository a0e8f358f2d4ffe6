"""Guests whose contents are those of a snapshot file that no seed has made, under a foreign handler and our page server."""

from __future__ import annotations

import dataclasses
import os
import re
from operator import attrgetter
from pathlib import Path

import pytest

from tests import foreign_snapshot, needs, specs
from tests.conformance.run import expected, found, spec_of
from tests.conformance.table import Row, rows
from tests.external import GUESTS, PAGES, SHMEM, SHORT, against, asked
from tests.foreign_snapshot import named_word, on
from tests.in_process import run_in_process
from tests.peers.build import peer
from tests.workers import test_takeover as takeover
from tests.workers.test_actors import SPEC
from tests.workers.test_baselines import checked, on_a_snapshot
from tests.workers.test_external import balloon, with_devices
from workers.page_server import PageServer
from workers.snapshot import Snapshots
from workers.spec import RunSpec
from workers.vcpu import Vcpu

CELLS = [row for row in rows() if row.strategy != "null" or row.state == "hit"]


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize("regions", [1, 3])
@pytest.mark.parametrize("memory", ["shmem", "anon", "hugetlb"])
def test_every_page_of_a_foreign_handler_is_that_of_the_file(memory: str, regions: int, tmp_path: Path) -> None:
    spec = GUESTS[memory]
    spec = on(dataclasses.replace(spec, memory=dataclasses.replace(spec.memory, regions=regions)), tmp_path)
    ran = against(spec)
    assert (ran.stop_reason, ran.wrong_words, ran.first_wrong, ran.broken) == ("", 0, "", [])
    assert ran.verified == ran.pages_resolved == spec.memory.pages


def test_vcpus_that_write_leave_the_words_as_the_file_has_them(tmp_path: Path) -> None:
    access = specs.access(overlap=True, read_share=0.0, passes=2)
    ran = against(on(dataclasses.replace(SHMEM, access=access), tmp_path))
    assert (ran.stop_reason, ran.wrong_words, ran.verified) == ("", 0, PAGES)


@needs.KVM
@pytest.mark.parametrize("memory", ["shmem", "anon"])
def test_kvm_vcpus_find_the_words_of_the_file(memory: str, tmp_path: Path) -> None:
    spec = on(dataclasses.replace(GUESTS[memory], engine="kvm"), tmp_path)
    ran = against(spec)
    assert (ran.stop_reason, ran.wrong_words, ran.verified, ran.pages_resolved) == ("", 0, PAGES, PAGES)
    wrong = against(dataclasses.replace(spec, watchdog_s=1.0), "--fault wrong-byte")
    found, right = named_word(Path(spec.source.file), 4096, wrong.first_wrong)
    assert found == right ^ 0x10


@pytest.mark.parametrize("fault", ["wrong-byte", "next-page", "zero-page", "zeropage", "unregisters"])
def test_wrong_contents_are_named_against_the_file(fault: str, tmp_path: Path) -> None:
    spec = on(SHORT, tmp_path)
    ran = against(spec, f"--fault {fault}")
    assert ran.wrong_words > 0
    found, right = named_word(Path(spec.source.file), 4096, ran.first_wrong)
    assert found != right
    assert fault != "wrong-byte" or found == right ^ 0x10
    zeros = "; zeros: the handler served a zero page, or ended the registration"
    assert (zeros in ran.first_wrong) == (found == 0)


@pytest.mark.parametrize("engine", ["thread", pytest.param("kvm", marks=needs.KVM)])
def test_a_word_that_is_not_the_one_expected_is_found_as_it_is_touched(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and every page are right; what is expected of page 5 is not."""
    right = Snapshots.touched_words

    def spoiled(snapshots: Snapshots, spec: RunSpec) -> bytes:
        words = bytearray(right(snapshots, spec))
        words[5 * 8] ^= 1
        return bytes(words)

    monkeypatch.setattr(Snapshots, "touched_words", spoiled)
    ran = against(on(dataclasses.replace(SHMEM, engine=engine), tmp_path))
    assert (ran.stop_reason, ran.wrong_words, ran.wrong_at_end) == ("", 1, 0)
    found, expected = (int(word, 16) for word in re.findall("0x([0-9a-f]{16})", ran.first_wrong))
    assert ran.first_wrong.startswith("page 5, word ") and found == expected ^ 1


def test_a_word_that_no_vcpu_touches_is_found_wrong_at_the_end(tmp_path: Path) -> None:
    spec = on(SHMEM, tmp_path)
    other = tmp_path / "other.mem"
    bytes_ = bytearray(Path(spec.source.file).read_bytes())
    bytes_[5 * 4096] ^= 1  # in a hole
    other.write_bytes(bytes_)
    handler = asked(command=f"{peer('handler')} {{socket}} {other}")
    server = specs.page_server(handshake_timeout_s=5.0, external=handler)
    ran = against(dataclasses.replace(spec, page_server=server))
    assert (ran.wrong_words, ran.wrong_at_end) == (1, 1)
    assert ran.first_wrong == "page 5, word 0: found 0x0000000000000001, expected 0x0000000000000000"


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize(("memory", "method"), [("anon", "dontneed"), ("shmem", "remove"), ("hugetlb", "dontneed")])
def test_dropped_pages_are_zeros_whatever_the_file_has_there(memory: str, method: str, tmp_path: Path) -> None:
    ran = against(on(balloon(GUESTS[memory], method), tmp_path))
    assert (ran.stop_reason, ran.wrong_words, ran.first_wrong) == ("", 0, "")
    assert ran.dropped > 0


def test_a_handler_that_forgets_what_a_balloon_dropped_is_found(tmp_path: Path) -> None:
    spec = on(dataclasses.replace(balloon(GUESTS["anon"], "dontneed"), watchdog_s=1.0), tmp_path)
    ran = against(spec, "--fault forgets-removes")
    assert "; the balloon had dropped the page, so it must read as zeros" in ran.first_wrong


@pytest.mark.usefixtures("huge_pages", "zram")
@pytest.mark.parametrize("row", CELLS, ids=attrgetter("id"))
def test_our_page_server_and_every_strategy_serve_the_file_with_the_counts_of_seeded_contents(row: Row, tmp_path: Path) -> None:
    assert found(run_in_process(on(spec_of(row.strategy, row.memory, row.state), tmp_path))) == expected(row)


@pytest.mark.usefixtures("huge_pages", "zram")
@pytest.mark.parametrize("memory", ["shmem", "anon", "hugetlb"])
def test_each_round_has_the_contents_of_the_file(memory: str, tmp_path: Path) -> None:
    spec = spec_of("uffd_wait", memory, "absent", vcpus=2)
    mix = specs.fault_mix(hit=0.5, absent=0.5) if memory == "anon" else specs.fault_mix(hit=0.25, minor=0.25, absent=0.5)
    spec = dataclasses.replace(spec, fault_mix=mix, measure_s=3600.0, rounds_limit=3, record_capacity=4096)
    ran = run_in_process(on(spec, tmp_path))
    assert (ran.stop_reason, ran.unprepared, ran.wrong_words, ran.broken) == ("", 0, 0, [])
    assert [len(row["round_end_ns"]) for row in ran.rows] == [3, 3]


@needs.KVM
@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait"])
def test_kvm_vcpus_are_served_by_our_page_server(strategy: str, tmp_path: Path) -> None:
    spec = dataclasses.replace(spec_of(strategy, "shmem", "absent", vcpus=2), engine="kvm")
    ran = run_in_process(on(spec, tmp_path))
    assert (ran.stop_reason, ran.unprepared, ran.wrong_words, ran.broken) == ("", 0, 0, [])


@pytest.mark.parametrize("cache", ["warm", "cold"])
@pytest.mark.parametrize("strategy", ["uffd_wait", "file_map"])
def test_a_snapshot_is_as_cold_as_was_asked_for_and_read_ahead_by_a_prefetcher(strategy: str, cache: str, tmp_path: Path) -> None:
    spec = on_a_snapshot(SPEC, cache) if strategy == "file_map" else SPEC
    held = dataclasses.replace(spec.access, hold_ns=200_000_000)  # vCPUs on a warm file end before a prefetcher has begun
    spec = dataclasses.replace(spec, access=held, fault_mix=specs.fault_mix(absent=1.0), prefetch=specs.prefetch("order"))
    report, _ = checked(on(spec, tmp_path, cache))  # the actors prove that a cold file is not in the page cache
    assert report.counters["prefetched_pages"] > 0


def test_page_servers_that_are_killed_are_replaced_and_every_page_is_that_of_the_file(tmp_path: Path) -> None:
    takeover.kill_page_servers(on(takeover.spec_for("uffd_wait", "shmem"), tmp_path))


def test_pages_that_a_balloon_of_ours_drops_come_from_the_file_again(tmp_path: Path) -> None:
    spec = dataclasses.replace(spec_of("uffd_wait", "shmem", "hit", vcpus=2), access=specs.access(overlap=True, passes=200))
    balloon_ = dataclasses.replace(spec.disturb.balloon, rate_per_s=5000, method="remove")
    spec = dataclasses.replace(spec, disturb=dataclasses.replace(spec.disturb, balloon=balloon_))
    spec = dataclasses.replace(spec, access=dataclasses.replace(spec.access, think_ns=20_000))
    ran = run_in_process(on(spec, tmp_path))
    assert (ran.stop_reason, ran.wrong_words, ran.broken) == ("", 0, [])
    assert ran.vcpus["pages_dropped"] > 0


@pytest.mark.parametrize("how", ["written", "replaced", "touched", "removed", "cut"])
def test_a_file_that_changes_while_it_is_used_is_named(how: str, tmp_path: Path) -> None:
    spec = on(SHMEM, tmp_path)
    path, server = Path(spec.source.file), PageServer()
    server.open(dataclasses.replace(spec, page_server=specs.page_server()))
    assert server.snapshot_change() == ""
    if how == "written":
        os.pwrite(os.open(path, os.O_WRONLY | os.O_CLOEXEC), b"x", 4096)
    elif how == "replaced":
        foreign_snapshot.write(tmp_path / "new", spec.memory.region_bytes).rename(path)
    elif how == "touched":
        path.touch()
    elif how == "removed":
        path.unlink()
    else:
        os.truncate(path, 4096)
    ways = {"removed": "removed", "cut": "became shorter"}
    assert ways.get(how, "was changed or replaced while it was read") in server.snapshot_change()
    server.close()


def test_the_words_of_a_file_are_read_again_when_it_has_changed(tmp_path: Path) -> None:
    spec = dataclasses.replace(on(SHMEM, tmp_path), page_server=specs.page_server())
    snapshots = PageServer()._snapshots
    before = snapshots.touched_words(spec)
    assert snapshots.touched_words(spec) is before
    Path(spec.source.file).write_bytes(b"\1" * spec.memory.region_bytes)
    assert snapshots.touched_words(spec) == b"\1" * (8 * PAGES)


def test_what_would_read_the_file_while_vcpus_run_is_refused(tmp_path: Path) -> None:
    spec = dataclasses.replace(on(SHMEM, tmp_path), page_server=specs.page_server())
    for refused, why in ((dataclasses.replace(spec, verify="page"), "verify=page"), (with_devices(spec), "devices")):
        server, vmm = PageServer(), Vcpu()
        address, _ = server.open(refused)
        with pytest.raises(ValueError, match=f"{re.escape(why)} would read the snapshot while the vCPUs run"):
            vmm.open(refused, 0, address)
        server.close()
