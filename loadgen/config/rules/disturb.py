"""What `disturb` may ask for on which memory, strategy and host; each refusal with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.host.probe import Host


def problems(
    disturb: dict[str, Any], strategy: dict[str, Any], engine: dict[str, Any], memory_type: str, host: Host
) -> Iterator[str]:
    """`strategy`, `engine`: their entries of the native registry."""
    if disturb["balloon"]["rate_per_s"] > 0:
        yield from _balloon(disturb["balloon"], strategy, memory_type, host)
    if disturb["balloon"]["stage2"] == "stale" and not engine["emulates_exits"]:
        yield (
            f"engine={engine['name']}: KVM takes a dropped page out of its stage-2 tables by itself, so none can go stale: "
            "use disturb.balloon.stage2=dropped, or engine=thread"
        )
    if disturb["devices"]["threads"] > 0:
        yield from _devices(disturb["devices"], strategy, memory_type, host)
    if disturb["migrator"]["rate_per_s"] > 0 and not host.may_migrate:
        yield (
            "disturb=migrator makes the kernel compact memory (/proc/sys/vm/compact_memory) and looks page frames up in pagemap: "
            "run as root, or without it"
        )


def _balloon(balloon: dict[str, Any], strategy: dict[str, Any], memory_type: str, host: Host) -> Iterator[str]:
    method, name = balloon["method"], strategy["name"]
    if method != "dontneed" and memory_type == "anon":
        yield (
            f"disturb.balloon.method={method} takes pages out of a memfd, and anonymous memory has none: "
            "use disturb.balloon.method=dontneed, or memory=shmem"
        )
    if not strategy["userfaultfd"]:
        if method != "dontneed":
            yield (
                f"under strategy {name} no reader fetches a page again that disturb.balloon.method={method} removed: "
                "use disturb.balloon.method=dontneed"
            )
        if balloon["track_removes"]:
            yield (f"strategy {name} has no userfaultfd that could report dropped pages: use disturb.balloon.track_removes=false")
    elif balloon["track_removes"] and host.userfaultfd_way and "EVENT_REMOVE" not in host.userfaultfd_features:
        yield (
            f"kernel {host.kernel} cannot report dropped pages (userfaultfd feature EVENT_REMOVE): "
            "use disturb.balloon.track_removes=false"
        )


def _devices(devices: dict[str, Any], strategy: dict[str, Any], memory_type: str, host: Host) -> Iterator[str]:
    if devices["device_mapping"] == "second":
        if memory_type == "anon":
            yield (
                "disturb.devices.device_mapping=second maps the guest a second time, and anonymous memory has one mapping only: "
                "use disturb.devices.device_mapping=same, or memory=shmem"
            )
        elif not strategy["userfaultfd"]:
            yield (
                f"strategy {strategy['name']} has no userfaultfd, so a second mapping for devices would have none either: "
                "use disturb.devices.device_mapping=same"
            )
    if strategy["userfaultfd"] and host.userfaultfd_way == "user_mode_only":
        yield (
            "disturb=devices faults inside the kernel, and this process may use userfaultfd for user-mode faults only: run as "
            "root, or give this user access to /dev/userfaultfd"
        )
