"""Every column that is computed and not measured: the only place that knows the formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from results.derive.quantiles import Quantiles
from results.derive.rounds import measured_s, start_spread_ns

NS_PER_S = 1_000_000_000
NS_PER_US = 1_000
SMALL_PAGE_BYTES = 4096
LEAST_LEFT = 0.1
"""Share of the duration that must be left without the emulated exits: of less, the calibration's own error is a large part."""


class FaultLatencies:
    """Latencies of a run's faults: from the touch, and from when the touch should have been (open loop)."""

    def __init__(self) -> None:
        self.closed = Quantiles()
        self.open = Quantiles()

    def add(self, stages: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """Add a batch: one int64 array a stage by its column name, all of one length, 0 where it did not happen."""
        resumed = stages["resumed_ns"]
        for quantiles, begin in ((self.closed, stages["raised_ns"]), (self.open, stages["intended_ns"])):
            both = (begin != 0) & (resumed != 0)
            if both.all():
                quantiles.add(resumed - begin)
            elif both.any():
                quantiles.add(resumed[both] - begin[both])


def derive(run: Mapping[str, Any], vcpus: Sequence[Mapping[str, Any]], latencies: FaultLatencies) -> dict[str, Any]:
    """The derived columns of a `runs` row from its measured ones, its `vcpus` rows and its faults.

    What cannot be computed is None: rates when a vCPU did not start or end, latencies when no fault left a record.
    """
    duration_s = measured_s(vcpus)
    net_duration_s = _net_duration_s(run, duration_s, hosts=len({row.get("host") for row in vcpus}))
    pages = run.get("pages_resolved")
    pages_per_s = _ratio(pages, duration_s)
    page_bytes = run.get("page_bytes")
    p50_ns = latencies.closed.per_mille(500)
    return {
        "achieved_delay_us": _achieved_delay_us(run),
        "overhead_s": _overhead_s(run, duration_s),
        "duration_s": duration_s,
        "start_spread_ns": start_spread_ns(vcpus),
        "pages_per_s": pages_per_s,
        "pages_per_s_net": _ratio(pages, net_duration_s),
        "prefetched_pages_per_s": _ratio(run.get("prefetched_pages"), duration_s),
        "emulated_s": None if duration_s is None or net_duration_s is None else duration_s - net_duration_s,
        "pages_4kib_per_s": None if pages_per_s is None or page_bytes is None else pages_per_s * (page_bytes / SMALL_PAGE_BYTES),
        "faults_per_s": _ratio(run.get("faults"), duration_s),
        "faults_per_s_net": _ratio(run.get("faults"), net_duration_s),
        "latency_p50_ns": p50_ns,
        "latency_p50_net_ns": _net_latency_ns(run, p50_ns),
        "latency_p99_ns": latencies.closed.per_mille(990),
        "latency_p999_ns": latencies.closed.per_mille(999),
        "latency_open_p50_ns": latencies.open.per_mille(500),
        "latency_open_p99_ns": latencies.open.per_mille(990),
        "latency_open_p999_ns": latencies.open.per_mille(999),
    }


def _achieved_delay_us(run: Mapping[str, Any]) -> float | None:
    """Mean over the fetches that were delayed; None when none was."""
    delays, delay_ns = run.get("delays"), run.get("delay_ns")
    return delay_ns / delays / NS_PER_US if delays and delay_ns is not None else None


def _overhead_s(run: Mapping[str, Any], duration_s: float | None) -> float | None:
    """What is left of the run when fill, measured phase and full verification are taken out, as far as they happened."""
    wall_s = run.get("wall_s")
    if wall_s is None:
        return None
    return float(wall_s) - sum(part or 0.0 for part in (run.get("fill_s"), run.get("verify_s"), duration_s))


def _net_duration_s(run: Mapping[str, Any], duration_s: float | None, hosts: int) -> float | None:
    """The duration without the emulated exits, which run side by side on as many CPUs of each host as its vCPUs can be on; None
    when less than LEAST_LEFT of it is left."""
    trips, exit_ns = run.get("trips"), run.get("emulated_exit_ns")
    vcpus, cores = (run.get("vcpus") or 0) * (run.get("guests") or 1), (run.get("cores") or 0) * hosts
    if duration_s is None or trips is None or exit_ns is None or not vcpus or not cores:
        return None
    left_s = float(duration_s - trips * exit_ns / NS_PER_S / min(vcpus, cores))
    return left_s if left_s >= LEAST_LEFT * duration_s else None


def _net_latency_ns(run: Mapping[str, Any], latency_ns: int | None) -> float | None:
    """A fault's latency without the emulated exits it took on average; None when less than LEAST_LEFT of it is left."""
    trips, exit_ns, faults = run.get("trips"), run.get("emulated_exit_ns"), run.get("faults")
    if latency_ns is None or trips is None or exit_ns is None or not faults:
        return None
    left_ns = float(latency_ns - trips * exit_ns / faults)
    return left_ns if left_ns >= LEAST_LEFT * latency_ns else None


def _ratio(amount: float | None, seconds: float | None) -> float | None:
    if amount is None or seconds is None or seconds <= 0:
        return None
    return float(amount) / seconds
