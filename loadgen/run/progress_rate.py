"""Status polls of a run in figures: its current rate, the share done, and what it waits for when it seems stuck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.spec import RunSpec

STUCK_AFTER_S = 2.0


@dataclass(frozen=True)
class Now:
    """A run at one status poll. `pages_per_s`: since the poll before; `latency_p99_ns` and `faults_by_kind`: so far, None and
    empty without records; `done`: share of the accesses; `left_s`: time the rest takes at the rate so far, None before the first
    access; `stuck`: what it waits for, empty while it makes progress."""

    pages_per_s: float
    latency_p99_ns: float | None
    faults_by_kind: Mapping[str, int]
    done: float
    left_s: float | None
    stuck: str


class ProgressRate:
    """Takes the status polls of one run, as `loadgen.run.live_status` returns them, in their order."""

    def __init__(self, spec: RunSpec, guests: int = 1) -> None:
        self._accesses = accesses(spec) * guests
        self._seconds = 0.0
        self._pages = 0

    def take(self, look: Mapping[str, Any]) -> Now:
        """The run at this status poll."""
        seconds_so_far = look["seconds"]
        seconds, pages = seconds_so_far - self._seconds, look["pages_resolved"] - self._pages
        self._seconds, self._pages = look["seconds"], look["pages_resolved"]
        done = min(1.0, look["accesses"] / self._accesses) if self._accesses else 0.0
        return Now(
            pages_per_s=pages / seconds if seconds > 0 else 0.0,
            latency_p99_ns=look["latency_p99_ns"],
            faults_by_kind={kind: count for kind, count in look["faults_by_kind"].items() if count},
            done=done,
            left_s=seconds_so_far * (1 - done) / done if done else None,
            stuck=stuck(look["standing"], look.get("unanswered_s", 0.0)),
        )


def accesses(spec: RunSpec) -> int:
    """Accesses of a guest, over all its vCPUs."""
    asked, pages = spec.access, spec.memory.pages
    each_pass = asked.accesses * spec.vcpus or (len(asked.trace) or pages) * (spec.vcpus if asked.overlap else 1)
    return each_pass * asked.passes


def stuck(standing: list[Mapping[str, Any]], unanswered_s: float) -> str:
    """The vCPU that waits longest, with its page, page state and stage; empty if none waits for STUCK_AFTER_S.

    `unanswered_s`: time since the last answer of the page server; without an answer the vCPUs' status is unknown.
    """
    if unanswered_s > STUCK_AFTER_S:
        return f"no answer from the page server for {unanswered_s:.1f} s"
    long = sorted((one for one in standing if one["seconds"] > STUCK_AFTER_S), key=lambda one: -one["seconds"])
    if not long:
        return ""
    first, others = long[0], len(long) - 1
    state = f" is {first['page_state']}" if first["page_state"] else ""
    place = f"page {first['page']}{state}, stage: {first['stage']}"
    more = f"; {others} more without progress" if others else ""
    return f"vCPU {first['vcpu']}: no progress for {first['seconds']:.1f} s: {place}{more}"
