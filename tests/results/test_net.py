"""Net of emulated operations, against values computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.derive.columns import derive
from results.derive.latencies import FaultLatencies
from results.derive.net import Costs, costs, doubts
from results.figures import thousand
from results.store.dataset import DataSet
from results.summaries.net import bracket, bracket_to, ends, net_text
from tests.results.rows import FAULT_DTYPE, KINDS, OUTCOMES, emulated, faults, run_row, store


def vcpu(number: int, seconds: float, cpu_s: float | None = None, **made: int) -> dict[str, Any]:
    """A vCPU that ran so long."""
    row = {"vcpu": number, "start_ns": 10**9, "end_ns": 10**9 + int(seconds * 1e9), **emulated(**made)}
    return row if cpu_s is None else row | {"round_cpu_ns": [int(cpu_s * 1e9)]}


def signals(**values: Any) -> dict[str, Any]:
    """A run of 1 000 000 pages whose exits cost 2000 ns, of which slow GUP is 500."""
    costs = {"emulated_exit_ns": 2000.0, "emulated_slow_gup_ns": 500.0, "emulated_entry_ns": 0.0}
    return run_row(**{"vcpus": 1, "cores": 1, **costs, **values})


def net(run: dict[str, Any], vcpus: list[dict[str, Any]], latencies: FaultLatencies | None = None) -> dict[str, Any]:
    return derive(run, vcpus, latencies or FaultLatencies())


def test_operations_are_subtracted_and_trips_are_not() -> None:
    run = run_row(vcpus=1, cores=1, trips=999_999, emulated_exit_ns=500.0, emulated_slow_gup_ns=0.0, emulated_entry_ns=1000.0)
    found = net(run, [vcpu(0, 2.0, probes_missed=400_000, probes_found=300_000)])  # 0.2 s and 0.3 s
    assert found["pages_per_s_net"] == pytest.approx(1_000_000 / 1.5)
    assert found["pages_per_s_net_low"] == found["pages_per_s_net_high"] == found["pages_per_s_net"]
    assert found["emulated_s"] == pytest.approx(0.5)


def test_a_refused_access_makes_net_a_bracket_that_is_no_one_number() -> None:
    found = net(signals(), [vcpu(0, 2.0, signals=400_000)])  # 0.6 s without slow GUP, 0.8 s with it
    assert found["pages_per_s_net_low"] == pytest.approx(1_000_000 / 1.4)
    assert found["pages_per_s_net_high"] == pytest.approx(1_000_000 / 1.2)
    assert found["pages_per_s_net"] is None


def test_each_vcpu_is_relieved_of_its_own_operations_and_the_slowest_then_decides() -> None:
    run = signals(vcpus=2, cores=2, emulated_slow_gup_ns=0.0)
    found = net(run, [vcpu(0, 2.0, signals=800_000), vcpu(1, 1.0)])  # 0.4 s are left of the first
    assert found["pages_per_s_net"] == pytest.approx(1_000_000)


def test_every_round_is_shortened_by_the_share_of_a_vcpus_operations() -> None:
    second = 10**9
    row = {"round_start_ns": [second, 5 * second], "round_end_ns": [2 * second, 8 * second], **emulated(signals=1_000_000)}
    found = net(signals(emulated_slow_gup_ns=0.0), [row])
    assert found["duration_s"] == 4.0
    assert found["pages_per_s_net"] == pytest.approx(1_000_000 / 2.0)


@pytest.mark.parametrize(
    "values",
    [
        {"rate_per_s": 1000.0},
        {"think_ns": 100},
        {"hold_ns": 10**9},
        {"emulated_exit_ns": None},
        {"cores": 0},
        {"cores": 2, "vcpu_cpus": ""},
        {"cores": 4, "vcpu_cpus": "0;0;0"},
    ],
)
def test_net_is_null_where_the_time_is_not_the_vcpus_own_and_cpu_time_a_page_is_not(values: dict[str, Any]) -> None:
    vcpus = [vcpu(number, 2.0, 1.5, signals=100_000) | {"waiting_cpu_ns": 0} for number in range(3)]
    found = net(signals(**{"cores": 3, "vcpus": 3, **emulated(signals=300_000), **values}), vcpus)
    for name in ("pages_per_s_net", "faults_per_s_net", "latency_p50_net"):
        unit = "_ns" if name.startswith("latency") else ""
        assert {found[f"{name}{end}{unit}"] for end in ("", "_low", "_high")} == {None}, name
    assert found["cpu_ns_per_page"] == pytest.approx(4500)
    real = "emulated_exit_ns" in values
    assert found["cpu_ns_per_page_net_high"] == (None if real else pytest.approx(4500 - 0.3 * 1500))
    assert found["cpu_ns_per_page_net_low"] == (None if real else pytest.approx(4500 - 0.3 * 2000))


@pytest.mark.parametrize("column", ["rate_per_s", "think_ns", "hold_ns"])
def test_what_a_vcpu_spins_until_an_access_is_due_is_no_pages_cpu_time(column: str) -> None:
    run = signals(cores=2, vcpus=2, **emulated(signals=200_000), **{column: 1000})
    vcpus = [vcpu(number, 2.0, 1.5, signals=100_000) | {"waiting_cpu_ns": 1_000_000_000} for number in range(2)]
    found = net(run, vcpus)
    assert found["cpu_ns_per_page"] == pytest.approx(1000)
    assert found["cpu_ns_per_page_net_high"] == pytest.approx(1000 - 0.2 * 1500)
    uncounted = net(run, [row | {"waiting_cpu_ns": None} for row in vcpus])
    assert (uncounted["cpu_ns_per_page"], uncounted["cpu_ns_per_page_net_high"]) == (None, None)


def test_as_many_vcpus_as_cpus_have_a_net_rate() -> None:
    found = net(signals(cores=2, vcpus=2, vcpu_cpus="0;1"), [vcpu(number, 2.0, signals=100_000) for number in range(2)])
    assert found["pages_per_s_net_low"] == pytest.approx(1_000_000 / 1.85)


def test_vcpus_are_counted_against_the_cpus_of_their_own_host() -> None:
    vcpus = [vcpu(number, 2.0) | {"host": host} for number, host in enumerate("ab")]
    assert net(signals(cores=1, vcpus=1, guests=2), vcpus)["pages_per_s_net"] == pytest.approx(500_000)


def test_net_is_null_when_less_than_a_tenth_is_left_of_the_time() -> None:
    found = net(signals(), [vcpu(0, 2.0, signals=950_000)])
    assert {found[f"pages_per_s_net{end}"] for end in ("", "_low", "_high")} == {None}
    assert found["pages_per_s"] == 500_000


def test_net_is_null_where_operations_were_not_counted_unless_they_cost_nothing() -> None:
    rows = [{"vcpu": 0, "start_ns": 1, "end_ns": 2_000_000_001}]
    assert net(signals(), rows)["pages_per_s_net_low"] is None
    nothing = signals(emulated_exit_ns=0.0, emulated_slow_gup_ns=0.0)
    assert net(nothing, rows)["pages_per_s_net"] == net(nothing, rows)["pages_per_s"]


def test_cpu_time_of_an_external_handler_is_the_pages_too() -> None:
    threads = [{"role": role, "user_ns": 10**9, "system_ns": 10**9} for role in ("vcpu", "handler", "handler", "driver")]
    found = derive(run_row(vcpus=1, cores=1), [vcpu(0, 2.0)], FaultLatencies(), threads)
    assert found["cpu_ns_per_page"] == pytest.approx(6000)


def test_cpu_time_of_readers_and_rings_is_the_pages_too() -> None:
    threads = [{"role": role, "user_ns": 10**9, "system_ns": 10**9} for role in ("vcpu", "reader", "ring", "driver", "balloon")]
    found = derive(run_row(vcpus=1, cores=1), [vcpu(0, 2.0)], FaultLatencies(), threads)
    assert found["cpu_ns_per_page"] == pytest.approx(6000)


def test_a_net_latency_is_the_median_of_faults_without_what_each_of_them_paid() -> None:
    latencies = FaultLatencies()
    stages = {"raised_ns": [1] * 5, "intended_ns": [0] * 5, "delivered_ns": [11, 21, 31, 0, 0]}
    stages |= {
        "resumed_ns": [10_001, 10_001, 6_001, 5_001, 5_501],
        "emulated_exits": [3, 3, 1, 0, 0],
        "emulated_entries": [0] * 5,
    }
    latencies.add({name: np.array(values, np.int64) for name, values in stages.items()})
    found = net(signals(), [vcpu(0, 1.0)], latencies)
    assert found["latency_p50_ns"] == 6_000  # of 10 000, 10 000, 6 000, 5 000, 5 500
    assert found["latency_p50_net_low_ns"] == 4_000  # of 4 000, 4 000, 4 000, 5 000, 5 500
    assert found["latency_p50_net_high_ns"] == 5_500  # of 5 500, 5 500, 4 500, 5 000, 5 500
    assert found["emulated_arrival_p50_ns"] == 20


@pytest.mark.parametrize(
    ("values", "doubt"),
    [
        ({"emulated_exit_before_ns": 1000.0, "emulated_exit_after_ns": 1099.0}, ""),
        (
            {"emulated_exit_before_ns": 1000.0, "emulated_exit_after_ns": 1101.0},
            "an emulated exit cost another time after the run than before it (1000 ns, then 1101 ns)",
        ),
        (
            {"emulated_entry_before_ns": 800.0, "emulated_entry_after_ns": 700.0},
            "an emulated stage-2 violation cost another time after the run than before it (800 ns, then 700 ns)",
        ),
        ({"emulated_arrival_ns": 1000.0, "emulated_arrival_p50_ns": 1250}, ""),
        (
            {"emulated_arrival_ns": 1000.0, "emulated_arrival_p50_ns": 749},
            "emulated exits did not take the time they were calibrated with (749 ns, calibrated 1000 ns)",
        ),
        ({"emulated_arrival_ns": 0.0, "emulated_arrival_p50_ns": None}, ""),
    ],
)
def test_a_run_is_flagged_where_its_calibrations_do_not_hold(values: dict[str, Any], doubt: str) -> None:
    made = emulated(signals=10, populates_done=10)
    assert "; ".join(doubts(signals(**made, **values))) == doubt
    assert not list(doubts(signals(**emulated(), **values))) or "emulated_arrival_ns" in values, "it made none of them"


def test_a_flagged_calibration_is_stored_beside_what_else_speaks_against_the_run(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    with dataset.writer("run-a", "sweep-1") as writer:
        changed = signals(emulated_exit_before_ns=1000.0, emulated_exit_after_ns=2000.0, trusted=True, distrust=None)
        changed |= emulated(signals=1)
        writer.commit(changed, [vcpu(0, 2.0)])
    with dataset.writer("run-b", "sweep-1") as writer:
        writer.commit(changed | {"trusted": False, "distrust": "others were busy (1.0)"}, [vcpu(0, 2.0)])
    first, second = dataset.read("runs", ["trusted", "distrust"]).to_pylist()
    assert (first["trusted"], second["trusted"]) == (False, False)
    assert first["distrust"] == "an emulated exit cost another time after the run than before it (1000 ns, then 2000 ns)"
    assert second["distrust"] == f"others were busy (1.0); {first['distrust']}"


def test_what_each_fault_paid_is_stored_and_is_null_in_records_that_do_not_have_it(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    plain = faults([5000, 6000])
    paid = np.zeros(2, np.dtype([*FAULT_DTYPE.descr, ("emulated_exits", "u1"), ("emulated_entries", "u1")]))
    for name in FAULT_DTYPE.names or ():
        paid[name] = plain[name]
    paid["emulated_exits"], paid["emulated_entries"] = [1, 0], [0, 2]
    for run_id, records in (("run-a", paid), ("run-b", plain)):
        with dataset.writer(run_id, "sweep-1") as writer:
            writer.faults(KINDS, OUTCOMES).add(np.zeros(2, np.uint16), records)
            writer.commit(signals(), [vcpu(0, 2.0)])
    rows = dataset.read("faults", ["run_id", "emulated_exits", "emulated_entries"]).to_pylist()
    stored = {
        run: [(row["emulated_exits"], row["emulated_entries"]) for row in rows if row["run_id"] == run]
        for run in ("run-a", "run-b")
    }
    assert stored == {"run-a": [(1, 0), (0, 2)], "run-b": [(None, None)] * 2}


@pytest.mark.parametrize("missing", [0, 1])
def test_a_cell_shows_net_of_all_its_repeats_or_of_none(tmp_path: Path, missing: int) -> None:
    dataset = DataSet.open(str(tmp_path))
    for repeat in range(3):
        costs = {"emulated_exit_ns": None if repeat < missing else 2000.0, "emulated_slow_gup_ns": 500.0, "repeat": repeat}
        store(dataset, f"run-{repeat}", strategy="no_uffd_wait", made={"signals": 200_000}, **costs)
    runs = dataset.runs()
    found = bracket(runs, "pages_per_s_net")
    if missing:
        assert found is None and net_text(found, thousand) == "-"
    else:
        assert found is not None and found.n == 3
        assert (found.low, found.high) == (pytest.approx(1_000_000 / 1.7), pytest.approx(1_000_000 / 1.6))
        assert net_text(found, thousand) == "588.2..625.0"


def test_a_net_ratio_divides_each_end_by_the_baselines_other_one() -> None:
    base = {0: {"pages_per_s_net_low": 100.0, "pages_per_s_net_high": 200.0}}
    run = {"repeat": 0, "pages_per_s_net_low": 300.0, "pages_per_s_net_high": 400.0}
    found = bracket_to(base, [run], "pages_per_s_net")
    assert found is not None and (found.low, found.high) == (1.5, 4.0)
    assert bracket_to(base, [run, run | {"repeat": 1}], "pages_per_s_net") is None


def test_the_ends_of_a_net_column_are_named_after_it() -> None:
    assert ends("latency_p50_net_ns") == ("latency_p50_net_low_ns", "latency_p50_net_high_ns")


def test_slow_gup_costs_no_more_than_the_exit_that_it_is_a_part_of() -> None:
    assert costs(signals(emulated_exit_ns=400.0)) == Costs(400.0, 400.0, 0.0)  # it was calibrated as 500
    assert costs(signals(emulated_slow_gup_ns=None)) == Costs(2000.0, 0.0, 0.0)


def test_the_arrival_of_an_exit_is_that_of_emulated_exits_alone() -> None:
    records = faults([1000, 1000, 1000])
    columns = {name: records[name].astype(np.int64) for name in records.dtype.names if name.endswith("_ns")}
    found = FaultLatencies()
    found.add(columns | {"emulated_exits": np.zeros(3, np.int64), "emulated_entries": np.zeros(3, np.int64)})
    assert found.arrival.per_mille(500) is None
    columns["delivered_ns"] = columns["raised_ns"] + np.array([700, 50, 800])
    found.add(columns | {"emulated_exits": np.array([1, 0, 1]), "emulated_entries": np.zeros(3, np.int64)})
    assert (found.arrival.per_mille(500), found.arrival.per_mille(1000)) == (700, 800)
