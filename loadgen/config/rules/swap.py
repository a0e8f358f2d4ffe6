"""How pages are swapped out, and whether this host can."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from loadgen.host.probe import Host
from loadgen.plan.swap_size import MIB, SPARE_BYTES, pages_swapped_bytes, plan_swap
from workers.spec import SwapSpec


def problems(values: dict[str, Any], host: Host) -> Iterator[str]:
    """Why pages cannot be swapped out so."""
    asked = values["swap"]
    needed = pages_swapped_bytes(values)
    if asked["name"] == "none":
        if needed > host.swap_free_bytes:
            yield (
                f"fault_mix.swapped={values['fault_mix']['swapped']:g} needs {needed / MIB:.0f} MiB of swap and this host has "
                f"{host.swap_free_bytes / MIB:.0f} MiB free: use swap=zram or swap=file (as root), or another fault_mix"
            )
        return
    spec = plan_swap(values)
    if spec.kind == "none":
        return
    if spec.size_bytes < needed + SPARE_BYTES:
        yield (
            f"swap.mib={asked['mib']} is too small for the {needed / MIB:.0f} MiB that fault_mix.swapped="
            f"{values['fault_mix']['swapped']:g} swaps out: use at least {-(-(needed + SPARE_BYTES) // MIB)}, or 0 for as much "
            "as is needed"
        )
    if not host.root:
        yield f"swap={spec.kind} is set up by root only: run as root, or use swap=none on a host with swap of its own"
    if spec.kind == "zram" and not host.zram:
        yield "swap=zram needs a zram device and this host has none free: `modprobe zram`, or use swap=file"
    if spec.kind == "file":
        yield from _folder(spec)


def _folder(spec: SwapSpec) -> Iterator[str]:
    try:
        status = os.statvfs(spec.folder)
    except OSError as error:
        yield f"swap.folder={spec.folder} cannot be used: {error.strerror}; use a folder on a disk"
        return
    free = status.f_bavail * status.f_frsize
    if free < spec.size_bytes:
        yield (
            f"swap=file needs {spec.size_bytes / MIB:.0f} MiB in swap.folder={spec.folder} and {free / MIB:.0f} MiB are free: "
            "use another swap.folder"
        )
