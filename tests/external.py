"""Runs of one guest against the C handler of tests/peers, in this process and without Ray."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.derive.identities import broken
from tests import specs
from tests.in_process import has_run
from tests.peers.build import peer
from workers import _native
from workers.external.processes import family
from workers.spec import ExternalSpec, PageServerSpec, PlacementSpec, RunSpec
from workers.vcpu import Vcpu

PAGES = 512


def asked(**fields: Any) -> ExternalSpec:
    """A handler, one for each guest and VMM process."""
    return ExternalSpec(**{"socket": "", "command": "", "shared": False, "message": "current", "vmms": 1} | fields)


def external(options: str = "", **fields: Any) -> PageServerSpec:
    """The C handler, started with these options."""
    command = f"{peer('handler')} {{socket}} {{snapshot}} {options}"
    return specs.page_server(handshake_timeout_s=5.0, external=asked(command=command, **fields))


SHMEM = specs.run(
    seed=3,
    memory=specs.memory("shmem", PAGES * 4096, 4096),
    fault_mix=specs.fault_mix(absent=1.0),
    placement=PlacementSpec("none", ((),) * 2, ()),
    vcpus=2,
    vcpus_per_vmm=2,
    sample_every=1,
    record_capacity=2 * PAGES,
    source=specs.source(seed=3),
)
GUESTS = {
    "shmem": SHMEM,
    "anon": dataclasses.replace(SHMEM, memory=specs.memory("anon", PAGES * 4096, 4096)),
    "hugetlb": dataclasses.replace(SHMEM, memory=specs.memory("hugetlb", 8 << 21, 2 << 20)),
}
"""A guest of each memory type, with two vCPUs in one VMM process and every page absent."""


SHORT = dataclasses.replace(SHMEM, watchdog_s=1.0)
"""One whose handler is given up soon."""


@dataclass
class Outcome:
    """What a run came to. `seen`: of its handler, by the VMM process; `wrong_at_end`: words that no access found wrong."""

    stop_reason: str = ""
    wrong_words: int = 0
    first_wrong: str = ""
    wrong_at_end: int = 0
    verified: int = 0
    gone: int = 0
    pages_resolved: int = 0
    dropped: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)
    faults: int = 0
    version: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)


def against(spec: RunSpec, options: str = "", **more: Any) -> Outcome:
    """Run `spec` against the C handler started with `options`; `more`: of the specification of the handler."""
    ran = Outcome()
    if spec.page_server.external is None:
        spec = dataclasses.replace(spec, page_server=external(options, **more))
    with has_run(spec) as rig:
        assert rig.filled["unprepared"] + sum(one["unprepared"] for one in rig.prepared) == 0
        ran.stop_reason = rig.server.stop_reason()
        served = rig.server.finish()
        ran.version = served.handler_version
        for vmm in rig.vmms:
            _take(ran, vmm)
        row = {"pages": spec.memory.pages, "vcpus": spec.vcpus, "vcpus_per_vmm": spec.vcpus_per_vmm, "status": "ok"}
        ran.broken = list(broken(row, ran.rows, served.threads))
    return ran


def left_over() -> list[int]:
    """Handlers that this process has started and that are still there."""
    program = peer("handler").encode()
    return [pid for pid in family(os.getpid()) if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] == program]


def _take(ran: Outcome, vmm: Vcpu) -> None:
    report = vmm.finish()
    ran.rows += report.vcpus
    ran.seen = report.handler
    ran.dropped += report.counters["pages_dropped"]
    ran.pages_resolved += sum(row["pages_resolved"] for row in report.vcpus)
    ran.faults += sum(row["usage"]["minor_faults"] + row["usage"]["major_faults"] for row in report.vcpus)
    verified = vmm.verify()
    ran.verified += verified["pages"]
    ran.gone += verified["gone"]
    ran.wrong_at_end += verified["wrong_words"]
    found = [*report.vcpus, *report.disturbers, verified]
    ran.wrong_words += sum(one["wrong_words"] for one in found)
    ran.first_wrong = ran.first_wrong or next((one["first_wrong"] for one in found if one["first_wrong"]), "")
    _, _, records = vmm.fault_chunk(0, 1 << 20)
    ran.outcomes.update(_native.OUTCOMES[outcome] for outcome in records["outcome"])
