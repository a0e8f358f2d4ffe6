"""What each measured thread used, by the data set's column names."""

from __future__ import annotations

from typing import Any

from workers.reports import ServerReport, VmmReport


def thread_rows(served: ServerReport, reports: list[VmmReport]) -> list[dict[str, Any]]:
    """Rows of `threads`: every vCPU's, over the measured phase, and every page-server thread's, over its life, with its counters.

    A vCPU's counters are in `vcpus`.
    """
    vcpus = [
        {"role": "vcpu", "number": vcpu["vcpu"], "vmm": vmm, "tid": vcpu["tid"], "cpus": vcpu["cpus"], **vcpu["usage"]}
        for vmm, report in enumerate(reports)
        for vcpu in report.vcpus
    ]
    servers = [{key: value for key, value in thread.items() if key != "usage"} | thread["usage"] for thread in served.threads]
    return vcpus + servers
