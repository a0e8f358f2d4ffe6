"""A planned run in this process and without Ray: userfaultfd, memfds, swap and sockets are real."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from results.derive.identities import broken
from workers import _native
from workers.page_server import PageServer
from workers.spec import RunSpec
from workers.vcpu import Vcpu


@dataclass
class Ran:
    """The results of a run: counters summed over threads (`server`, `vcpus`), faults by (kind, outcome), the pages prepared in
    each kind by the first VMM process, and the results of its identities, verification and stop."""

    vcpus: Counter[str] = field(default_factory=Counter)
    server: Counter[str] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    prepared: dict[str, int] = field(default_factory=dict)
    unprepared: int = 0
    wrong_words: int = 0
    refused: int = 0
    pages_resolved: int = 0
    page_states: Counter[str] = field(default_factory=Counter)
    stop_reason: str = ""
    broken: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    rounds_ended: str = ""
    fault_rounds: list[int] = field(default_factory=list)
    fault_pages: list[int] = field(default_factory=list)
    records: list[npt.NDArray[np.void]] = field(default_factory=list)
    chunks: list[tuple[Any, Any, Any]] = field(default_factory=list)


@dataclass
class Rig:
    """The actors of a guest whose vCPUs have run. `filled` and `prepared`: what page server and VMM processes reported before."""

    server: PageServer
    vmms: list[Vcpu]
    filled: dict[str, Any] = field(default_factory=dict)
    prepared: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def has_run(spec: RunSpec, beside: Callable[[PageServer], None] = lambda server: None) -> Iterator[Rig]:
    """The vCPUs of `spec` have run inside; `beside` is called while they do. The actors are closed at the end."""
    rig = Rig(PageServer(), [Vcpu() for _ in range(spec.vmms)])
    try:
        address, rig.filled = rig.server.open(spec)
        for number, vmm in enumerate(rig.vmms):
            vmm.open(spec, number, address)
        rig.server.serve()
        rig.prepared = [vmm.prepare() for vmm in rig.vmms]
        threads = [threading.Thread(target=vmm.run) for vmm in rig.vmms]
        for thread in threads:
            thread.start()
        beside(rig.server)
        for thread in threads:
            thread.join()
        yield rig
    finally:
        for vmm in rig.vmms:
            vmm.close()
        rig.server.close()


def run_in_process(spec: RunSpec, beside: Callable[[PageServer], None] = lambda server: None) -> Ran:
    """Run `spec` once and verify it; `beside` is called while its vCPUs run."""
    ran = Ran()
    with has_run(spec, beside) as rig:
        server, vmms = rig.server, rig.vmms
        ran.prepared = rig.prepared[0]
        ran.unprepared = rig.filled["unprepared"] + sum(one["unprepared"] for one in rig.prepared)
        ran.stop_reason = server.stop_reason()
        served = server.finish()
        ran.server.update(served.counters)
        ran.rounds_ended = served.rounds_ended
        rows: list[dict[str, Any]] = []
        for vmm in vmms:
            report = vmm.finish()
            rows += report.vcpus
            ran.vcpus.update(report.counters)
            ran.page_states.update(report.page_states)
            ran.wrong_words += sum(row["wrong_words"] for row in report.vcpus)
            ran.pages_resolved += sum(row["pages_resolved"] for row in report.vcpus)
            verified = vmm.verify()
            ran.wrong_words += verified["wrong_words"]
            ran.refused += verified["poisoned"]
            ran.unprepared += report.unprepared
            ran.chunks.append(tuple(part.copy() for part in vmm.fault_chunk(0, 1 << 20)))
            _, rounds, records = ran.chunks[-1]
            ran.records.append(records)
            ran.fault_rounds += rounds.tolist()
            ran.fault_pages += records["page"].tolist()
            ran.faults.update(
                (_native.KINDS[kind], _native.OUTCOMES[outcome])
                for kind, outcome in zip(records["kind"], records["outcome"], strict=True)
            )
        ended = {f"ended_{state.replace(' ', '_')}": count for state, count in ran.page_states.items()}
        ran.rows = rows
        row = {"pages": spec.memory.pages, "vcpus": spec.vcpus, "vcpus_per_vmm": spec.vcpus_per_vmm, **ended}
        row["status"] = "stopped" if ran.stop_reason else "ok"
        ran.broken = list(broken(row, rows, served.threads))
    return ran
