"""Whether a row of `runs` contradicts itself: its columns its configuration, its status what was counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from results.derive.identities import PREPARED
from results.schema import ROUNDS_FROM
from results.statistics.design import settings

Row = Mapping[str, Any]

CONFIGURED = {
    "engine": "engine.name",
    "strategy": "strategy.name",
    "fault_mix": "fault_mix.name",
    "memory_type": "memory.type",
    "transparent_huge_pages": "memory.transparent_huge_pages",
    "numa": "memory.numa",
    "cluster": "cluster.name",
    "exclusive": "cluster.exclusive",
    "guests": "guests",
    "vcpus": "vcpus",
    "readers_per_uffd": "page_server.readers_per_uffd",
    "wait": "page_server.wait",
    "wake_first": "page_server.wake_first",
    "events_per_read": "page_server.events_per_read",
    "delay_us": "page_server.delay_us",
    "delay_distribution": "page_server.delay_distribution",
    "drop_events_share": "page_server.drop_events_share",
    "wake_every_ms": "page_server.wake_every_ms",
    "contents_bit": "page_server.contents_bit",
    "fill_pause_us": "page_server.fill_pause_us",
    "vanish_after_events": "page_server.vanish_after_events",
    "page_server": "page_server.name",
    "memory_regions": "memory.regions",
    "source": "source.name",
    "prefetch": "prefetch.name",
    "access_order": "access.order",
    "overlap": "access.overlap",
    "read_share": "access.read_share",
    "passes": "access.passes",
    "accesses_per_pass": "access.accesses",
    "stride_pages": "access.stride_pages",
    "zipf_exponent": "access.zipf_exponent",
    "rate_per_s": "access.rate_per_s",
    "on_memory_error": "on_memory_error",
    "devices": "disturb.devices.threads",
    "mmap_writers": "disturb.mmap_writers.threads",
    "balloon_per_s": "disturb.balloon.rate_per_s",
    "migrator_per_s": "disturb.migrator.rate_per_s",
    "placement": "placement.policy",
    "verify": "verify",
    "measure_s": "measure_s",
    "rounds_limit": "rounds_limit",
    "watchdog_s": "watchdog_s",
    "recover": "recover",
    "repeat": "repeat",
}
"""Columns that are a key of the configuration as it stands. A key that is null or missing there is not compared."""

SCALED = {"think_ns": ("access.think_us", 1e3), "hold_ns": ("access.hold_s", 1e9)}
"""Columns that are a key of the configuration in another unit."""

LEAST = {"cores": "cores", "vcpus_per_vmm": "vcpus_per_vmm", "uffds_per_vmm": "uffds_per_vmm", "page_bytes": "memory.page_bytes"}
"""Columns that are a key of the configuration unless that is 0, which leaves them to the plan."""


def no_json(run: Row) -> Iterator[str]:
    """A sentence for each column that must hold an object in JSON and does not."""
    for column in ("config_json", "strategy_options", "engine_options"):
        try:
            fits = isinstance(json.loads(run.get(column) or "{}"), dict)
        except ValueError:
            fits = False
        if not fits:
            yield f"{column} is not an object in JSON"


def contradictions(run: Row) -> Iterator[str]:
    """A sentence for each column that its configuration, or what was counted, contradicts."""
    yield from _of_the_configuration(run)
    yield from _of_preparing(run)
    yield from _of_the_status(run)


def _of_the_configuration(run: Row) -> Iterator[str]:
    config = settings(run)
    expected = {column: config.get(key) for column, key in CONFIGURED.items()}
    expected |= {column: config[key] * factor for column, (key, factor) in SCALED.items() if config.get(key) is not None}
    expected |= {column: config.get(key) or None for column, key in LEAST.items()}
    if all(config.get(key) is not None for key in ("seed", "repeat", "guests")):
        expected["seed"] = config["seed"] + config["repeat"] * config["guests"]
    if run.get("strategy") == "file_map":
        expected["memory_type"] = "file"  # whatever was asked for: it maps the snapshot
    own = run.get("schema_version", 0) >= ROUNDS_FROM and run.get("page_server") != "external"
    for column, value in expected.items():
        if value is None or (run.get(column) is None and not own):
            continue
        if run.get(column) is None or not _alike(run[column], value):
            yield f"{column}={run.get(column)}, and its configuration has {value}"
    for group in ("strategy", "engine"):
        for name, value in json.loads(run.get(f"{group}_options") or "{}").items():
            asked = config.get(f"{group}.{name}")
            if asked is not None and not _alike(value, asked):
                yield f"{group}_options has {name}={value}, and its configuration has {asked}"
    if own and run.get("guests") is not None:
        for column, text in (("vcpus", "vcpu_cpus"), ("readers", "reader_cpus")):
            placed = len(run[text].split(";")) if run.get(text) else 0
            if placed and run.get(column) != placed:
                yield f"{column}={run.get(column)}, and {text} has CPUs of {placed}"


def _of_preparing(run: Row) -> Iterator[str]:
    """Pages are prepared in one state each, and a cost is the mean of its calibrations."""
    prepared = [run.get(column) for column in PREPARED]
    if None not in prepared and not run.get("unprepared") and run.get("pages") and run.get("guests"):
        pages = sum(int(count or 0) for count in prepared)
        if pages != run["pages"] * run["guests"]:
            yield f"{pages} pages were prepared in some state, of {run['pages']} in each of {run['guests']} guests"
    for name in ("exit", "slow_gup", "entry"):
        before, after = (run.get(f"emulated_{name}_{when}_ns") for when in ("before", "after"))
        there = [value for value in (before, after) if value is not None]
        mean = run.get(f"emulated_{name}_ns")
        if there and (mean is None or not _alike(mean, sum(there) / len(there))):
            yield f"emulated_{name}_ns={mean}, and its calibrations were {' and '.join(map(str, there))}"


def _alike(stored: Any, configured: Any) -> bool:
    if isinstance(stored, int | float) and isinstance(configured, int | float):
        return abs(stored - configured) <= 1e-9 * max(1.0, abs(configured))
    return str(stored) == str(configured)


def _of_the_status(run: Row) -> Iterator[str]:
    ok = run["status"] == "ok"
    if ok and run.get("wrong_words"):
        yield f"status=ok, and wrong_words={run['wrong_words']}: the status is corrupt"
    if run["status"] == "corrupt" and run.get("wrong_words") == 0:
        yield "status=corrupt, and wrong_words=0"
    if not ok and not run.get("reason"):
        yield f"status={run['status']}, and no reason"
    for column in ("duration_s", "pages_resolved"):
        if ok and run.get(column) is None:
            yield f"status=ok, and {column} is null"
