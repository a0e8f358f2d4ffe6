"""Where page contents come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadgen.plan.plan import MIB
from workers.source_address import split_address
from workers.spec import SourceSpec

KEYS = {
    "file": ("file", "cache"),
    "remote": ("address", "rtt_us", "connections", "push", "batch_pages", "push_mib_per_s"),
}
"""Keys of the group that only one of its choices reads."""


def problems(values: dict[str, Any]) -> Iterator[str]:
    """What the source cannot be, or is never asked."""
    source, memory = values["source"], values["memory"]
    name = source["name"]
    initial = SourceSpec()
    for owner, keys in KEYS.items():
        for key in keys:
            if owner != name and source[key] != getattr(initial, key):
                yield f"source.{key}={source[key]} is read under source={owner} only, not {name}"
    if name != "local" and values["fault_mix"]["absent"] == 0:
        yield f"source={name} is asked for absent pages only and fault_mix has none: use fault_mix=absent, or source=local"
    if name == "file" and source["file"]:
        yield from _snapshot(source["file"], memory["region_mib"] * MIB)
    if name == "remote":
        yield from _remote(source, memory, values["watchdog_s"])


def _snapshot(path: str, region_bytes: int) -> Iterator[str]:
    try:
        found = Path(path).stat().st_size
    except OSError as error:
        yield f"source.file={path} cannot be read: {error.strerror}; `loadgen-source --snapshot {path}` writes one"
        return
    if found != region_bytes:
        yield (
            f"source.file={path} has {found} bytes and the region has {region_bytes}: use a snapshot of this region, "
            "or another memory.region_mib"
        )


def _remote(source: dict[str, Any], memory: dict[str, Any], watchdog_s: float) -> Iterator[str]:
    if source["address"]:
        try:
            split_address(source["address"])
        except ValueError as error:
            yield f"source.address: {error}"
        if source["rtt_us"] > 0:
            yield "source.rtt_us is emulated by a source this session starts: leave source.address empty, or use its --rtt-us"
    if source["push"] and memory["type"] == "anon":
        yield (
            "pushed pages need a place before they are asked for, and anonymous memory has none: use source.push=false, "
            "or memory=shmem"
        )
    given_s = source["timeout_s"] * (source["retries"] + 1)
    if 0 < watchdog_s <= given_s:
        yield (
            f"source.timeout_s={source['timeout_s']:g} with source.retries={source['retries']} gives the source {given_s:g} s "
            f"and watchdog_s={watchdog_s:g} ends the run first: use a larger watchdog_s, or smaller ones of these"
        )
    if source["rtt_us"] / 1e6 >= source["timeout_s"]:
        yield f"source.rtt_us={source['rtt_us']:g} is no less than source.timeout_s={source['timeout_s']:g}: use a larger one"
    frame_s = source["batch_pages"] * memory["page_bytes"] / (source["push_mib_per_s"] * MIB) if source["push_mib_per_s"] else 0.0
    if source["push"] and frame_s >= source["timeout_s"]:
        yield (
            f"source.push_mib_per_s={source['push_mib_per_s']:g} sends a batch every {frame_s:.3g} s, which is no less than "
            f"source.timeout_s={source['timeout_s']:g}: use a smaller source.batch_pages, or a larger source.timeout_s"
        )
