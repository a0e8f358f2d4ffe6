"""Where page contents come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadgen.config.key import number
from loadgen.plan.plan import MIB
from workers.protocol.source_address import split_address


def problems(values: dict[str, Any]) -> Iterator[str]:
    """Why the source cannot serve this run."""
    source, memory = values["source"], values["memory"]
    name = source["name"]
    if name != "local" and values["fault_mix"]["absent"] == 0:
        yield f"source={name} serves absent pages only and fault_mix has none: use fault_mix=absent, or source=local"
    if name == "file" and source["file"]:
        yield from _snapshot(source["file"], memory["region_mib"] * MIB)
    if name == "file" and source["contents"] == "file":
        yield from _of_file(values)
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


def _of_file(values: dict[str, Any]) -> Iterator[str]:
    """Why a run cannot be verified against the snapshot file itself."""
    asked = "source.contents=file"
    source, mix = values["source"], values["fault_mix"]
    if not source["file"]:
        yield f"{asked} verifies against a snapshot and source.file names none: use source.file=PATH, or source.contents=seeded"
    if values["verify"] == "page":
        yield (
            f"verify=page would read the snapshot under {asked} while the vCPUs run: use verify=word, which checks every page in "
            "full at the end"
        )
    if values["disturb"]["devices"]["threads"] > 0:
        yield f"devices would read the snapshot under {asked} while the vCPUs run: leave them out, or use source.contents=seeded"
    if source["cache"] == "cold" and values["memory"]["type"] == "anon" and mix["hit"] + mix["swapped"] > 0:
        yield (
            f"{asked}: of anonymous memory, hit and swapped pages are read from the snapshot when it is out of the page cache "
            "already: use source.cache=warm, fault_mix=absent, or memory=shmem"
        )


def _remote(source: dict[str, Any], memory: dict[str, Any], watchdog_s: float) -> Iterator[str]:
    if source["address"]:
        try:
            split_address(source["address"])
        except ValueError as error:
            yield f"source.address: {error}"
        if source["rtt_us"] > 0:
            yield "source.rtt_us is emulated by the source that loadgen starts: leave source.address empty, or use its --rtt-us"
    if source["push"] and memory["type"] == "anon":
        yield (
            "source.push=true writes pages to the memfd before a vCPU touches them, and anonymous memory has no memfd: "
            "use source.push=false, or memory=shmem"
        )
    given_s = source["timeout_s"] * (source["retries"] + 1)
    if 0 < watchdog_s <= given_s:
        yield (
            f"source.timeout_s={source['timeout_s']:g} with source.retries={source['retries']} gives the source {given_s:g} s "
            f"and watchdog_s={watchdog_s:g} ends the run before: use a larger watchdog_s, or smaller values of these"
        )
    if source["rtt_us"] / 1e6 >= source["timeout_s"]:
        yield (
            f"source.rtt_us={number(source['rtt_us'])} is not less than source.timeout_s={source['timeout_s']:g}: "
            "use a larger source.timeout_s"
        )
    frame_s = source["batch_pages"] * memory["page_bytes"] / (source["push_mib_per_s"] * MIB) if source["push_mib_per_s"] else 0.0
    if source["push"] and frame_s >= source["timeout_s"]:
        yield (
            f"source.push_mib_per_s={source['push_mib_per_s']:g} sends a batch every {frame_s:.3g} s, which is not less than "
            f"source.timeout_s={source['timeout_s']:g}: use a smaller source.batch_pages, or a larger source.timeout_s"
        )
