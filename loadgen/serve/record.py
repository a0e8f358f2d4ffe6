"""Each VMM that was served becomes a run of kind `serve` in a data set."""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from loadgen.host.probe import Host, host_columns, probe
from loadgen.serve.foreign_vmm import Asked, Ended, ForeignVmm
from results.schema import STAGES_NS
from results.store.dataset import DataSet
from workers import _native

SEEN = (*STAGES_NS, "page", "kind", "outcome", "write")
"""What a page server sees of a fault; where and when the vCPU touched the page is not among it."""
MOST_VCPUS = 1 << 16


class Recorder:
    """Stores in the data set at `uri`, which is made where there is none. Raises DataSetError."""

    def __init__(self, uri: str, asked: Asked) -> None:
        self._dataset = DataSet.open(uri)
        self._asked = asked
        self._host = probe()
        self.sweep_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-v{secrets.token_hex(2)}"

    def store(self, vmm: ForeignVmm, ended: Ended) -> str:
        """Store one; the id of its run. Raises DataSetError."""
        run_id = f"{self.sweep_id}-000-{vmm.number:05d}"
        vcpus, rows = vcpus_of(vmm, ended)
        with self._dataset.writer(run_id, self.sweep_id) as writer:
            if len(ended.faults):
                known = ended.faults[list(SEEN)]
                writer.faults(_native.KINDS, _native.OUTCOMES, host=self._host.name).add(vcpus, known)
            threads = [{key: value for key, value in one.items() if key != "usage"} | one["usage"] for one in ended.threads]
            place = {"guest": 0, "host": self._host.name}
            run = _run(vmm, ended, self._asked, self._host, vcpus=max(1, len(rows)))
            writer.commit(run, [row | place for row in rows], [thread | place for thread in threads])
        return run_id


def vcpus_of(vmm: ForeignVmm, ended: Ended) -> tuple[npt.NDArray[np.uint16], list[dict[str, Any]]]:
    """The vCPU of each fault, and a row of each vCPU: the threads of the VMM that faulted, numbered in the order in which they
    first did; one of all of them where its userfaultfd does not name threads."""
    tids, first, inverse = np.unique(ended.tids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    vcpus = np.minimum(number[inverse], MOST_VCPUS - 1).astype(np.uint16)
    if not len(tids):
        return vcpus, []
    delivered, installed = ended.faults["delivered_ns"], ended.faults["installed_ns"]
    rows = []
    for vcpu, tid in enumerate(tids[order].tolist()):
        mine = vcpus == vcpu
        end_ns = int(max(installed[mine].max(), delivered[mine].max()))
        rows.append(
            {
                "vcpu": vcpu,
                "vmm": 0,
                "tid": tid if vmm.hello.names_threads else None,
                "faults": int(mine.sum()),
                "recorded": int(mine.sum()),
                "start_ns": int(delivered[mine].min()),
                "end_ns": end_ns,
            }
        )
    return vcpus, rows


def _run(vmm: ForeignVmm, ended: Ended, asked: Asked, host: Host, vcpus: int) -> dict[str, Any]:
    counters = ended.counters
    hello = vmm.hello
    options = {"fault_around_pages": asked.fault_around}
    return {
        **{name: counters[name] for name in counters if not name.startswith(("trips", "emulated_", "device_"))},
        **{f"ended_{state.replace(' ', '_')}": count for state, count in ended.page_states.items()},
        **ended.prefetch_marks,
        **host_columns(host),
        "host": host.name,
        "guest_hosts": host.name,
        "run_kind": "serve",
        "status": ended.status,
        "reason": ended.reason or None,
        "started_at": datetime.fromtimestamp(vmm.began_s, UTC),
        "repeat": 0,
        "engine": "foreign",
        "engine_options": "{}",
        "strategy": "uffd_wait",
        "strategy_options": json.dumps(options, sort_keys=True),
        "fault_mix": "absent",
        "memory_type": "foreign",
        "page_bytes": hello.page_bytes,
        "pages": sum(region.size for region in hello.regions) // hello.page_bytes,
        "guests": 1,
        "vcpus": vcpus,
        "vcpus_per_vmm": vcpus,
        "uffds_per_vmm": 1,
        "cores": len(host.cpus),
        "readers": asked.readers,
        "readers_per_uffd": asked.readers,
        "wait": asked.wait,
        "wake_first": asked.wake_first,
        "delay_us": asked.delay_us,
        "source": "file",
        "prefetch": asked.prefetch,
        "prefetch_mib_per_s": None if asked.prefetch == "none" else asked.prefetch_mib_per_s,
        "track_removes": hello.tracks_removes,
        "sample_every": 1,
        "rounds": None,
        "faults": counters["events"],
        "pages_resolved": counters["served_pages"],
        "config_json": json.dumps(_config(vmm, asked), sort_keys=True),
        "command": shlex.join(["loadgen-serve", *sys.argv[1:]]),
    }


def _config(vmm: ForeignVmm, asked: Asked) -> dict[str, Any]:
    keys = {name: value for name, value in vars(asked).items() if name != "working_set"}
    return {"serve": keys | {"pid": vmm.pid, "regions": [region.as_json() for region in vmm.hello.regions]}}


def working_set(ended: Ended) -> Sequence[int]:
    """The pages of a VMM that faulted, in the order in which they first did."""
    pages, first = np.unique(ended.faults["page"], return_index=True)
    ordered: list[int] = pages[np.argsort(first)].tolist()
    return ordered
