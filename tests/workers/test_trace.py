"""A run's faults become a trace, and its replay makes the same accesses: pages, order, reads and writes, vCPUs and gaps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadgen.plan.trace import pages_in, trace_spec
from results.store.dataset import DataSet
from results.store.trace_file import Trace, write_trace
from results.summaries.trace import trace_of
from tests.conformance.run import spec_of
from tests.in_process import run_in_process
from workers import _native
from workers.spec import RunSpec


def recorded(spec: RunSpec, folder: Path, run_id: str) -> Trace:
    """Run it, store its faults, and make a trace of them."""
    ran = run_in_process(spec)
    assert (ran.stop_reason, ran.wrong_words, ran.broken) == ("", 0, [])
    dataset = DataSet.open(str(folder / "dataset"))
    with dataset.writer(run_id, "sweep-1") as writer:
        faults = writer.faults(_native.KINDS, _native.OUTCOMES, exits=_native.EXITS)
        for vcpus, rounds, records in ran.chunks:
            faults.add(vcpus, records, rounds)
        writer.commit({"status": "ok", "guests": 1}, [])
    return trace_of(dataset, run_id)


def replay(spec: RunSpec, path: Path, **access: Any) -> RunSpec:
    """The same run, its accesses those of a trace."""
    speed = access.pop("speed", 1.0)
    asked = dataclasses.replace(
        spec.access, order="trace", trace=pages_in(str(path)), recorded=trace_spec(str(path), speed), speed=speed, **access
    )
    return dataclasses.replace(spec, access=asked)


@pytest.mark.parametrize("strategy", ["uffd_wait", "no_slow_gup"])
@pytest.mark.parametrize("vcpus", [1, 3])
def test_a_replayed_trace_touches_the_same_pages_in_the_same_order(tmp_path: Path, strategy: str, vcpus: int) -> None:
    spec = spec_of(strategy, "shmem", "absent", vcpus)
    spec = dataclasses.replace(spec, access=dataclasses.replace(spec.access, order="permutation", overlap=False, read_share=0.4))
    first = recorded(spec, tmp_path, "run-a")
    assert len(first) == 64
    assert 0 < first.write.sum() < 64
    write_trace(str(tmp_path / "trace"), first)
    again = recorded(replay(spec, tmp_path / "trace", speed=0.0), tmp_path, "run-b")
    for vcpu in range(vcpus):
        mine, its = first.vcpu == vcpu, again.vcpu == vcpu
        assert first.page[mine].tolist() == again.page[its].tolist()
        assert first.write[mine].tolist() == again.write[its].tolist()


def test_a_trace_of_more_vcpus_is_folded_on_those_there_are(tmp_path: Path) -> None:
    write_trace(str(tmp_path / "trace"), Trace.of({"page": range(12), "vcpu": [0, 1, 2, 3] * 3}))
    ran = recorded(replay(spec_of("uffd_wait", "shmem", "absent", 2), tmp_path / "trace", overlap=False), tmp_path, "run-a")
    assert ran.page[ran.vcpu == 0].tolist() == [0, 2, 4, 6, 8, 10]
    assert ran.page[ran.vcpu == 1].tolist() == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_gaps_are_replayed_at_the_speed_asked_for_and_never_early(tmp_path: Path, speed: float) -> None:
    due_ns = [0, 3_000_000, 4_000_000, 9_000_000]
    write_trace(str(tmp_path / "trace"), Trace.of({"page": [7, 5, 6, 1], "time_ns": due_ns}))
    spec = replay(spec_of("uffd_wait", "shmem", "absent"), tmp_path / "trace", speed=speed)
    records = run_in_process(spec).chunks[0][2]
    asked = np.diff(records["intended_ns"].astype(np.int64))
    assert records["page"].tolist() == [7, 5, 6, 1]
    assert np.allclose(asked, np.diff(due_ns) / speed, rtol=1e-3)  # ticks become ns by a line through two looks at both clocks
    assert (records["raised_ns"] >= records["intended_ns"]).all()


def test_each_pass_repeats_the_gaps_of_the_trace(tmp_path: Path) -> None:
    write_trace(str(tmp_path / "trace"), Trace.of({"page": [2, 3, 2], "time_ns": [0, 1_000_000, 2_000_000]}))
    spec = replay(spec_of("uffd_wait", "shmem", "absent"), tmp_path / "trace", passes=3)
    ran = run_in_process(spec)
    assert ran.rows[0]["accesses"] == 9
    assert ran.rows[0]["end_ns"] - ran.rows[0]["start_ns"] >= 8_000_000


def test_a_vcpu_without_an_access_in_the_trace_is_refused(tmp_path: Path) -> None:
    write_trace(str(tmp_path / "trace"), Trace.of({"page": [1, 2], "vcpu": [0, 0]}))
    with pytest.raises(ValueError, match="the trace has no access of vCPU 1: use fewer vCPUs"):
        run_in_process(replay(spec_of("uffd_wait", "shmem", "absent", 2), tmp_path / "trace", overlap=False))


def test_runs_of_one_trace_share_its_entries_until_the_file_changes(tmp_path: Path) -> None:
    path = str(tmp_path / "trace")
    write_trace(path, Trace.of({"page": [7, 5], "time_ns": [0, 9000]}))
    assert pages_in(path) is pages_in(path)
    assert trace_spec(path, 2.0) is trace_spec(path, 2.0)
    assert (trace_spec(path, 1.0).due_ns, trace_spec(path, 2.0).due_ns) == ((0, 9000), (0, 4500))
    write_trace(path, Trace.of({"page": [7, 5, 6], "time_ns": [0, 9000, 9001]}))
    assert (pages_in(path), trace_spec(path, 1.0).due_ns) == ((7, 5, 6), (0, 9000, 9001))
