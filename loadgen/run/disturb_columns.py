"""The disturbances of a run by the data set's column names: what was asked for, and what was achieved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from results.derive.quantiles import Quantiles
from workers.disturb_spec import ROLES, DisturbSpec
from workers.reports import VmmReport

FLOOR = 0.9
"""A disturbance that does less than this part of the rate asked for was not achieved."""


def describe_disturb(spec: DisturbSpec, vmms: int) -> dict[str, Any]:
    """The configuration columns; what is off is 0 or null."""
    balloon, devices = spec.balloon, spec.devices
    is_on = spec.drops
    return {
        "disturb": "+".join(spec.active) or "none",
        "balloon_per_s": balloon.rate_per_s,
        "balloon_method": balloon.method if is_on else None,
        "track_removes": balloon.track_removes if is_on else None,
        "balloon_stage2": balloon.stage2 if is_on else None,
        "migrator_per_s": spec.migrator.rate_per_s,
        "mmap_writers": spec.mmap_writers.threads,
        "mmap_writer_per_s": vmms * spec.mmap_writers.threads * spec.mmap_writers.rate_per_s,
        "devices": devices.threads,
        "device_per_s": vmms * devices.threads * devices.rate_per_s,
        "device_mapping": devices.device_mapping if devices.threads else None,
    }


def achieved(reports: Sequence[VmmReport]) -> dict[str, Any]:
    """What the threads did, a second; null where there was none. `not_achieved` names those that fell short."""
    columns: dict[str, Any] = {}
    short = []
    for role in ROLES:
        threads = [thread for report in reports for thread in report.disturbers if thread["role"] == role]
        if not threads:
            continue
        asked = sum(thread["rate_per_s"] for thread in threads)
        done = sum(per_s(thread) for thread in threads)
        columns[f"{role}_achieved_per_s"] = done
        if done < FLOOR * asked:
            short.append(f"{role}: {done:.0f} of {asked:.0f} a second")
    return columns | {"not_achieved": "; ".join(short) or None}


def device_sleeps(reports: Sequence[VmmReport]) -> dict[str, Any]:
    """How long accesses of devices took that slept in the kernel; null where none did."""
    devices = [thread for report in reports for thread in report.disturbers if thread["role"] == "device"]
    sleeps = Quantiles()
    for thread in devices:
        if thread["sleeps_ns"]:
            sleeps.add(np.repeat(*np.array(thread["sleeps_ns"], np.int64).T))
    return {
        "device_sleep_p50_ns": sleeps.per_mille(500),
        "device_sleep_p99_ns": sleeps.per_mille(990),
        "device_sleep_max_ns": max((thread["longest_sleep_ns"] for thread in devices), default=0) or None,
    }


def disturber_rows(reports: Sequence[VmmReport]) -> list[dict[str, Any]]:
    """Rows of `threads`: over the measured phase, with their counters."""
    not_columns = {"usage", "done", "rate_per_s", "seconds", "wrong_words", "first_wrong", "sleeps_ns", "longest_sleep_ns"}
    return [
        {key: value for key, value in thread.items() if key not in not_columns}
        | {"vmm": vmm, "asked_per_s": thread["rate_per_s"] or None, "achieved_per_s": per_s(thread), **thread["usage"]}
        for vmm, report in enumerate(reports)
        for thread in report.disturbers
    ]


def per_s(thread: dict[str, Any]) -> float:
    """Units a second of one thread; 0 when it did not get to start."""
    return float(thread["done"] / thread["seconds"]) if thread["seconds"] > 0 else 0.0
