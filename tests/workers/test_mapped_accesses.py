"""Accesses to pages that are mapped are neither stamped nor recorded, unless they exit all the same."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conformance.run import PAGES, spec_of
from tests.in_process import run_in_process
from workers.page_server import PageServer

MADV_DONTNEED = 4
LIBC = ctypes.CDLL(None, use_errno=True)


def mappings() -> list[tuple[int, int]]:
    """Start and length of this process's mappings of guest regions."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:uffd-loadgen-region" in line]
    ends = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    return [(start, end - start) for start, end in ends]


def drop_after_the_first_pass(server: PageServer) -> None:
    """Unmap every page of the guest once it has been touched: as the kernel does that reclaims."""
    while server.look()["accesses"] < PAGES["shmem"]:
        time.sleep(0.001)
    for start, length in mappings():
        assert LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_DONTNEED) == 0, os.strerror(ctypes.get_errno())


@pytest.mark.parametrize("strategy", ["no_uffd_wait", "no_slow_gup"])
def test_a_mapped_page_is_touched_again_without_a_fault(strategy: str) -> None:
    spec = spec_of(strategy, "shmem", "minor")
    ran = run_in_process(dataclasses.replace(spec, access=dataclasses.replace(spec.access, passes=3)))
    assert (ran.stop_reason, ran.wrong_words, ran.broken) == ("", 0, [])
    assert [row["accesses"] for row in ran.rows] == [3 * PAGES["shmem"]]
    [records] = ran.records
    assert len(records) == PAGES["shmem"]
    assert not records["intended_ns"].any(), "what did not happen is 0: a closed loop intends no time"
    assert (records["raised_ns"] > 0).all() and (records["raised_ns"] <= records["resumed_ns"]).all()


def test_a_page_that_the_record_calls_mapped_and_is_not_exits_is_resolved_and_leaves_a_record() -> None:
    spec = spec_of("no_uffd_wait", "shmem", "minor")
    access = dataclasses.replace(spec.access, passes=2, think_ns=10_000_000)  # a second pass of 0.6 s
    ran = run_in_process(dataclasses.replace(spec, access=access), drop_after_the_first_pass)
    assert (ran.stop_reason, ran.wrong_words, ran.broken) == ("", 0, [])
    assert ran.vcpus["resolved_again"] > 0
    assert [row["pages_resolved"] for row in ran.rows] == [PAGES["shmem"]]
    [records] = ran.records
    again = records[PAGES["shmem"] :]
    assert len(again) == ran.vcpus["resolved_again"] == ran.vcpus["trips"] - PAGES["shmem"]
    stages = ("raised_ns", "delivered_ns", "installed_ns", "resumed_ns")
    assert (np.diff([again[stage].astype(np.int64) for stage in stages], axis=0) >= 0).all()
    assert (again["raised_ns"] > records["resumed_ns"][PAGES["shmem"] - 1]).all()


def test_a_sleep_in_a_page_that_the_record_calls_mapped_leaves_a_record_of_its_own_and_the_last_one_as_it_was() -> None:
    spec = spec_of("uffd_wait", "shmem", "minor")
    access = dataclasses.replace(spec.access, passes=2, think_ns=2_000_000)
    ran = run_in_process(dataclasses.replace(spec, access=access), drop_after_the_first_pass)
    assert (ran.stop_reason, ran.wrong_words, ran.broken) == ("", 0, [])
    assert ran.server["resolved_again"] > 0
    assert [row["pages_resolved"] for row in ran.rows] == [PAGES["shmem"]]
    [records] = ran.records
    first, again = records[: PAGES["shmem"]], records[PAGES["shmem"] :]
    assert len(again) == ran.server["resolved_again"]
    assert set(ran.faults) == {("minor", "waited")}
    assert (first["installed_ns"] < again["raised_ns"][0]).all(), "a record that is closed is stamped no more"
    assert (first["resumed_ns"] < again["raised_ns"][0]).all()
    stages = ("raised_ns", "delivered_ns", "resumed_ns")
    assert (np.diff([again[stage].astype(np.int64) for stage in stages], axis=0) >= 0).all()
    assert (np.diff(again["page"].astype(np.int64)) == 1).all() and again["page"][-1] == PAGES["shmem"] - 1
