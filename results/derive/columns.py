"""Every column that is computed and not measured: the only place with the formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.derive.latencies import FaultLatencies
from results.derive.net import net
from results.derive.rounds import measured_s, start_spread_ns
from results.derive.touched import touched

NS_PER_S = 1_000_000_000
NS_PER_US = 1_000
SMALL_PAGE_BYTES = 4096


def derive(
    run: Mapping[str, Any],
    vcpus: Sequence[Mapping[str, Any]],
    latencies: FaultLatencies,
    threads: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The derived columns of a `runs` row from its measured ones, its `vcpus` and `threads` rows and its faults.

    What cannot be computed is None: rates when a vCPU did not start or end, latencies when no fault left a record.
    """
    duration_s = measured_s(vcpus)
    pages = run.get("pages_resolved")
    pages_per_s = _ratio(pages, duration_s)
    page_bytes = run.get("page_bytes")
    return {
        "achieved_delay_us": _achieved_delay_us(run),
        "overhead_s": _overhead_s(run, duration_s),
        "duration_s": duration_s,
        "start_spread_ns": start_spread_ns(vcpus),
        "pages_per_s": pages_per_s,
        "prefetched_pages_per_s": _ratio(run.get("prefetched_pages"), duration_s),
        "pages_4kib_per_s": None if pages_per_s is None or page_bytes is None else pages_per_s * (page_bytes / SMALL_PAGE_BYTES),
        "faults_per_s": _ratio(run.get("faults"), duration_s),
        "latency_p50_ns": latencies.closed(500),
        "latency_p99_ns": latencies.closed(990),
        "latency_p999_ns": latencies.closed(999),
        "latency_open_p50_ns": latencies.open.per_mille(500),
        "latency_open_p99_ns": latencies.open.per_mille(990),
        "latency_open_p999_ns": latencies.open.per_mille(999),
        **touched(run, vcpus),
        "service_p50_ns": latencies.service.per_mille(500),
        "service_p99_ns": latencies.service.per_mille(990),
        "late_p50_ns": latencies.late.per_mille(500),
        "late_p99_ns": latencies.late.per_mille(990),
        **net(run, vcpus, threads, latencies, duration_s),
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


def _ratio(amount: float | None, seconds: float | None) -> float | None:
    if amount is None or seconds is None or seconds <= 0:
        return None
    return float(amount) / seconds
