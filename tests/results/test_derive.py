"""The derived columns against values computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.derive.columns import derive
from results.derive.latencies import FaultLatencies
from results.derive.quantiles import Quantiles
from results.schema import RUN_COLUMNS
from results.store.dataset import DataSet
from tests.results.rows import KINDS, OUTCOMES, faults, run_row, store, vcpu_rows


def derived(run: dict[str, Any], vcpus: list[dict[str, Any]]) -> dict[str, Any]:
    return derive(run, vcpus, FaultLatencies())


def test_the_derived_columns_of_the_schema_are_those_derive_computes() -> None:
    assert set(derived({}, [])) == {column.name for column in RUN_COLUMNS if column.derived}


def test_rates_go_from_the_common_start_to_the_last_vcpus_end() -> None:
    values = derived(run_row(pages_resolved=1_000_000, faults=250_000), vcpu_rows(2.0))
    assert values["duration_s"] == 2.0
    assert values["pages_per_s"] == 500_000
    assert values["faults_per_s"] == 125_000


def test_pages_that_a_stream_brought_have_a_rate_of_their_own() -> None:
    values = derived(run_row(pages_resolved=1_000_000, prefetched_pages=300_000), vcpu_rows(2.0))
    assert (values["pages_per_s"], values["prefetched_pages_per_s"]) == (500_000, 150_000)


def test_pages_of_2_mib_count_as_512_pages_of_4_kib() -> None:
    assert derived(run_row(page_bytes=2 << 20, pages_resolved=100), vcpu_rows(2.0))["pages_4kib_per_s"] == 50 * 512


@pytest.mark.parametrize("missing", ["start_ns", "end_ns"])
def test_rates_are_null_when_a_vcpu_did_not_start_or_end(missing: str) -> None:
    vcpus = vcpu_rows(2.0)
    vcpus[1][missing] = 0
    values = derived(run_row(), vcpus)
    assert values["duration_s"] is values["pages_per_s"] is values["pages_per_s_net"] is None


def test_latency_percentiles_are_latencies_that_happened(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    store(dataset, "run-a", latencies_ns=list(np.random.default_rng(3).permutation(np.arange(1, 2001))))
    row = dataset.read("runs").to_pylist()[0]
    assert [row[f"latency_{name}_ns"] for name in ("p50", "p99", "p999")] == [1000, 1980, 1998]
    assert [row[f"latency_open_{name}_ns"] for name in ("p50", "p99", "p999")] == [None] * 3


def test_open_loop_latency_starts_when_the_access_should_have_happened(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    with dataset.writer("run-a", "sweep-1") as writer:
        records = faults([100, 200, 300], open_loop_lag_ns=10_000_000_000)
        writer.faults(KINDS, OUTCOMES).add(np.zeros(3, np.uint16), records)
        writer.commit(run_row(), vcpu_rows(1.0))
    row = dataset.read("runs").to_pylist()[0]
    assert row["latency_p50_ns"] == 200
    assert row["latency_open_p50_ns"] == 10_000_000_200
    assert row["latency_open_p999_ns"] == 10_000_000_300


def test_a_fault_that_did_not_resume_has_no_latency(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    records = faults([100, 200, 300])
    records["resumed_ns"][2] = 0
    with dataset.writer("run-a", "sweep-1") as writer:
        writer.faults(KINDS, OUTCOMES).add(np.zeros(3, np.uint16), records)
        writer.commit(run_row(), vcpu_rows(1.0))
    [row] = dataset.read("runs").to_pylist()
    assert [row[f"latency_{name}_ns"] for name in ("p50", "p99", "p999")] == [100, 200, 200]


def test_zero_is_no_time_of_a_stage_in_any_latency() -> None:
    latencies = FaultLatencies()
    times = {"intended_ns": [0, 0, 5, 0], "raised_ns": [10, 0, 10, 10], "resumed_ns": [30, 40, 0, 50]}
    latencies.add({name: np.array(values, np.int64) for name, values in times.items()})
    assert [latencies.closed(rank) for rank in (1, 500, 1000)] == [20, 20, 40]
    assert len(latencies.open) == 0 and latencies.open.per_mille(500) is None


def test_quantiles_of_many_batches_are_those_of_all_values_sorted() -> None:
    rng = np.random.default_rng(5)
    for scale in (3, 10_000, 2**40):  # many ties, 4 bytes a value, 8 bytes a value
        batches = [rng.integers(-scale // 100, scale, size) for size in (1, 1000, 0, 7, 4096) * 12]  # ties are merged twice
        batches.append(np.array([0, scale // 2]))
        quantiles = Quantiles()
        for batch in batches:
            quantiles.add(batch)
        everything = np.sort(np.concatenate(batches))
        assert len(quantiles) == len(everything)
        for rank in (0, 1, 250, 500, 990, 999, 1000):
            nearest = max(1, -(-len(everything) * rank // 1000))
            assert quantiles.per_mille(rank) == everything[nearest - 1]


def test_there_is_no_quantile_of_nothing() -> None:
    assert Quantiles().per_mille(500) is None


def test_clocks_are_compared_within_a_host_only() -> None:
    second = 1_000_000_000
    rows = [
        {"host": "a", "start_ns": 5 * second, "end_ns": 7 * second},
        {"host": "a", "start_ns": 5 * second + 9, "end_ns": 6 * second},
        {"host": "b", "start_ns": 900 * second, "end_ns": 903 * second},
    ]
    found = derived({"pages_resolved": 30, "vcpus": 1, "guests": 3, "cores": 2}, rows)
    assert (found["duration_s"], found["start_spread_ns"], found["pages_per_s"]) == (3.0, 9, 10.0)


def test_a_run_that_took_no_time_has_no_rate() -> None:
    vcpus = vcpu_rows(0.0)
    assert derived(run_row(), vcpus)["duration_s"] == 0
    assert derived(run_row(), vcpus)["pages_per_s"] is None


def test_lateness_is_from_the_intended_touch_and_service_is_of_faults_whose_touch_is_not_visible() -> None:
    latencies = FaultLatencies()
    times = {
        "intended_ns": [5, 7, 8, 0],
        "raised_ns": [10, 0, 20, 30],
        "delivered_ns": [11, 12, 21, 31],
        "installed_ns": [12, 19, 22, 32],
        "resumed_ns": [30, 40, 0, 50],
    }
    latencies.add({name: np.array(values, np.int64) for name, values in times.items()})
    found = derive(run_row(), vcpu_rows(1.0), latencies)
    assert (found["late_p50_ns"], found["late_p99_ns"]) == (5, 5)
    assert (found["service_p50_ns"], found["service_p99_ns"]) == (7, 7)


def test_overhead_is_what_fill_measured_phase_and_verification_leave_of_the_run() -> None:
    assert derived(run_row(wall_s=10.0, fill_s=1.0, verify_s=0.5), vcpu_rows(2.0))["overhead_s"] == pytest.approx(6.5)
    assert derived(run_row(wall_s=10.0), vcpu_rows(2.0))["overhead_s"] == pytest.approx(8.0)
    assert derived(run_row(), vcpu_rows(2.0))["overhead_s"] is None
