"""A whole guest in one process, fed by a remote source: `python -m tests.net.guest JSON`; prints what came of it as JSON.

The JSON: `address`, and any of `strategy`, `pages`, `vcpus`, `rate_per_s`, `watchdog_s` and the keys of `SourceSpec`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from tests import specs
from workers.page_server import PageServer
from workers.spec import (
    PlacementSpec,
    StrategySpec,
)
from workers.vcpu import Vcpu


def run(asked: dict[str, Any]) -> dict[str, Any]:
    pages, vcpus = asked.pop("pages", 1024), asked.pop("vcpus", 4)
    strategy = StrategySpec(asked.pop("strategy", "uffd_wait"), {"fault_around_pages": 1})
    access = specs.access(rate_per_s=asked.pop("rate_per_s", 0.0))
    spec = specs.run(
        run_id="run",
        sweep_id="sweep",
        repeat=0,
        seed=3,
        engine="thread",
        strategy=strategy,
        memory=specs.memory("shmem", pages * 4096, 4096),
        fault_mix=specs.fault_mix(absent=1.0),
        access=access,
        page_server=specs.page_server(),
        placement=PlacementSpec("none", ((),) * vcpus, ((),)),
        vcpus=vcpus,
        vcpus_per_vmm=vcpus,
        uffds_per_vmm=1,
        cores=2,
        verify="page",
        watchdog_s=asked.pop("watchdog_s", 20.0),
        sample_every=1,
        record_capacity=pages,
        source=specs.source(name="remote", seed=1, **asked),
    )
    server, vcpu = PageServer(), Vcpu()
    try:
        address, _ = server.open(spec)
        vcpu.open(spec, 0, address)
        server.serve()
        vcpu.prepare()
        print("running", flush=True)
        began = time.monotonic()
        thread = threading.Thread(target=vcpu.run)
        thread.start()
        thread.join()
        took_s = time.monotonic() - began
        reason = server.stop_reason()
        served, report, verified = server.finish(), vcpu.finish(), vcpu.verify()
        return {
            "stop_reason": reason,
            "took_s": took_s,
            "pages_resolved": sum(row["pages_resolved"] for row in report.vcpus),
            "wrong_words": verified["wrong_words"] + sum(row["wrong_words"] for row in report.vcpus),
            "source": served.source,
        }
    finally:
        vcpu.close()
        server.close()


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))), flush=True)
