"""A guest's rows, by the data set's column names. vCPUs and VMM processes are numbered through the run's guests."""

from __future__ import annotations

from typing import Any

from loadgen.cluster.session import Seat
from loadgen.run.disturb_columns import disturber_rows
from workers.reports import ServerReport, VmmReport


def vcpu_rows(seat: Seat, reports: list[VmmReport]) -> list[dict[str, Any]]:
    """Rows of `vcpus`: what each vCPU did."""
    return [_vcpu_row(seat, vcpu) for report in reports for vcpu in report.vcpus]


def thread_rows(seat: Seat, served: ServerReport, reports: list[VmmReport]) -> list[dict[str, Any]]:
    """Rows of `threads`: every vCPU's and every disturbance's, over the measured phase, and every page-server thread's, over its
    life, with its counters.

    A vCPU's counters are in `vcpus`.
    """
    where = {"guest": seat.number, "host": seat.node.name}
    vcpus = [
        {
            "role": "vcpu",
            "number": seat.first_vcpu + vcpu["vcpu"],
            "vmm": _vmm(seat, vcpu),
            "tid": vcpu["tid"],
            "cpus": vcpu["cpus"],
            **vcpu["usage"],
            **where,
        }
        for report in reports
        for vcpu in report.vcpus
    ]
    servers = [
        {**{key: value for key, value in one.items() if key != "usage"}, **one["usage"], **where} for one in served.threads
    ]
    disturbers = [row | {"vmm": seat.first_vmm + row["vmm"]} | where for row in disturber_rows(reports)]
    return vcpus + disturbers + servers


def _vmm(seat: Seat, vcpu: dict[str, Any]) -> int:
    return seat.first_vmm + int(vcpu["vcpu"]) // seat.spec.vcpus_per_vmm


def _vcpu_row(seat: Seat, vcpu: dict[str, Any]) -> dict[str, Any]:
    row = {key: value for key, value in vcpu.items() if key != "usage"}  # in its row of threads
    row |= {text: vcpu[text] or None for text in ("first_wrong", "stuck", "failure")}
    numbers = {"vcpu": seat.first_vcpu + vcpu["vcpu"], "vmm": _vmm(seat, vcpu)}
    return row | numbers | {"guest": seat.number, "host": seat.node.name}
