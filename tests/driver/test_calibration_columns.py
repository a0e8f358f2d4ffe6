"""The columns of a run's calibrations."""

from __future__ import annotations

from loadgen.run.calibration import OPERATIONS, calibration_columns


def calibrated(ns: float) -> dict[str, float]:
    return {f"{name}_{what}": ns for name in (*OPERATIONS, "arrival") for what in ("ns", "spread_ns")}


def test_an_operation_costs_the_mean_of_both_calibrations_or_the_one_there_is() -> None:
    both = calibration_columns(calibrated(100.0), calibrated(300.0))
    before, neither = calibration_columns(calibrated(100.0), {}), calibration_columns({}, {})
    for name in (*OPERATIONS, "arrival"):
        assert [one[f"emulated_{name}_ns"] for one in (both, before, neither)] == [200.0, 100.0, None]
    assert (both["emulated_exit_before_ns"], both["emulated_exit_after_ns"]) == (100.0, 300.0)
    assert (before["emulated_exit_after_ns"], before["emulated_exit_after_spread_ns"]) == (None, None)
