"""The accesses of the vCPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.config.rules.page_list import page_list
from loadgen.plan.trace import trace_in

REMEDY = "`loadgen-report trace` writes one from a run, or write the pages in the order of the accesses"


def problems(values: dict[str, Any]) -> Iterator[str]:
    """Why the pages cannot be accessed in this order."""
    access = values["access"]
    if access["order"] == "trace":
        unusable = [*page_list("access.trace_file", access["trace_file"], values["memory"], REMEDY)]
        yield from unusable or _of_the_trace(access, values["vcpus"])
    if access["order"] == "none" and access["hold_s"] == 0:
        yield "access=none touches no page and the run would end at once: use a positive access.hold_s"


def _of_the_trace(access: dict[str, Any], vcpus: int) -> Iterator[str]:
    """Why a readable trace cannot be replayed as asked."""
    trace = trace_in(access["trace_file"])
    if len(trace.page) < vcpus and not access["overlap"]:
        yield (
            f"vcpus={vcpus} and access.trace_file={access['trace_file']} has fewer accesses, {len(trace.page)}: use "
            f"vcpus={len(trace.page)} or fewer, a longer trace, or access.overlap=true"
        )
    elif len(trace.vcpu) and not access["overlap"]:
        idle = sorted(set(range(vcpus)) - set((trace.vcpu % vcpus).tolist()))
        if idle:
            yield (
                f"vcpus={vcpus} and access.trace_file={access['trace_file']} has no access of vCPU {idle[0]}: use "
                f"vcpus={trace.vcpus} or fewer, or a trace without the column vcpu, which is dealt out over all of them"
            )
    if not (access["speed"] > 0 and trace.span_ns > 0):
        return
    for key in ("accesses", "rate_per_s", "think_us"):
        if access[key]:
            yield f"access.{key}={access[key]} and the trace's own times exclude each other: use access.speed=0, or leave it out"
