"""The numbers of a configuration: each within its bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.config.rules import disturb
from workers.registry import strategy_entries
from workers.spec import FAULT_KINDS


def problems(values: dict[str, Any]) -> Iterator[str]:
    """Numbers that are out of bounds."""
    at_least = {
        "guests": 1,
        "vcpus": 1,
        "vcpus_per_vmm": 1,
        "uffds_per_vmm": 1,
        "cores": 0,
        "repeats": 1,
        "seed": 0,
        "faults_limit": 0,
        "watchdog_s": 0,
        "cluster.deadman_s": 0,
        "memory.region_mib": 1,
        "swap.mib": 0,
        "access.passes": 1,
        "access.accesses": 0,
        "access.stride_pages": 1,
        "access.think_us": 0,
        "access.rate_per_s": 0,
        "access.hold_s": 0,
        "page_server.readers_per_uffd": 1,
        "page_server.events_per_read": 1,
        "page_server.delay_us": 0,
        "page_server.handshake_timeout_s": 0,
        "page_server.drop_events_share": 0,
        "page_server.wake_every_ms": 0,
        "page_server.fill_pause_us": 0,
        "page_server.vanish_after_events": 0,
        "source.rtt_us": 0,
        "source.connections": 1,
        "source.batch_pages": 1,
        "source.push_mib_per_s": 0,
        "source.timeout_s": 0.001,
        "source.retries": 0,
        "prefetch.batch_pages": 1,
        "prefetch.mib_per_s": 0,
        **{f"fault_mix.{kind}": 0 for kind in FAULT_KINDS},
        **disturb.AT_LEAST,
    }
    for key, least in at_least.items():
        value: Any = values
        for part in key.split("."):
            value = value[part]
        if value < least:
            yield f"{key}={value} is too small: use at least {least}"
    for group, key, most in (("source", "connections", 64), ("source", "batch_pages", 512), ("prefetch", "batch_pages", 512)):
        if values[group][key] > most:
            yield f"{group}.{key}={values[group][key]} is too large: use at most {most}"
    if not 0 <= values["access"]["read_share"] <= 1:
        yield f"access.read_share={values['access']['read_share']} is no share: use a number from 0 to 1"
    if values["page_server"]["drop_events_share"] > 1:
        yield f"page_server.drop_events_share={values['page_server']['drop_events_share']} is no share: use a number from 0 to 1"
    if values["access"]["order"] == "none" and values["access"]["hold_s"] == 0:
        yield "access=none touches nothing and would end at once: use a positive access.hold_s"
    if values["access"]["order"] == "zipf" and values["access"]["zipf_exponent"] <= 0:
        yield f"access.zipf_exponent={values['access']['zipf_exponent']} is not positive: use for example 1.1"
    for option in strategy_entries().get(values["strategy"]["name"], {}).get("options", []):
        value = values["strategy"][option["name"]]
        if not option["choices"] and not option["minimum"] <= value <= option["maximum"]:
            yield (f"strategy.{option['name']}={value} is out of range: use {option['minimum']} to {option['maximum']}")
