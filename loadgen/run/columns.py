"""Columns and rows of a run, by the data set's names, from what its actors report. Pure.

vCPUs and VMM processes are numbered through the run's guests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from loadgen.cluster.session import Seat
from loadgen.run.node_columns import node_columns
from results.derive.identities import SUMS_OF_VCPUS
from results.derive.quantiles import Quantiles
from workers import _native
from workers.disturb_spec import ROLES
from workers.reports import ServerReport, VmmReport

PAGE_STATES = ("unresolved", "in flight", "resolved", "poisoned", "discarded")
LOCK_CAUSES = ("probe", "populate", "resolve", "fault")
"""What a vCPU did when it took the mmap_lock; `fault` is the kernel's own page fault."""
ACHIEVED_FROM = 0.9
"""A disturbance that does less than this part of its rate was not achieved."""
OF_A_PAGE_SERVER = (
    *("eexist", "eagain", "partial", "efault", "esrch", "eagain_changing", "resolved_again", "pages_poisoned", "contents_lost"),
    *("events", "events_resolved", "events_lost", "events_poisoned", "events_dropped", "reads", "reads_empty", "wakes"),
    *("deferred", "fetched_pages", "delays", "delay_ns", "prefetched_pages", "prefetch_late", "prefetch_skipped"),
    *("populate_waits", "stray_waits", "unknown_events", "removes", "pages_discarded", "device_waits", "device_resolved"),
)
"""Counters of the readers of userfaultfds: those of an external handler cannot be seen."""
NOT_COLUMNS = {"usage", "done", "rate_per_s", "seconds", "wrong_words", "first_wrong", "sleeps_ns", "longest_sleep_ns"}
"""What a disturbance reports beside its columns of `threads`."""


@dataclass(frozen=True)
class Reports:
    """What the guests that are left reported after the measured phase: of each its page server's report and its VMM processes';
    `verified`: the findings of each VMM process, empty where nothing was verified."""

    seats: Sequence[Seat]
    served: Sequence[ServerReport]
    vmms: Sequence[Sequence[VmmReport]]
    verified: Sequence[Mapping[str, Any]] = field(default=())

    @property
    def of_all_vmms(self) -> list[VmmReport]:
        """The VMM processes' reports of all guests."""
        return [report for guest in self.vmms for report in guest]

    @property
    def unprepared(self) -> int:
        """Pages that could not be brought into their state between rounds."""
        return sum(report.unprepared for report in self.of_all_vmms)

    def vcpu_rows(self) -> list[dict[str, Any]]:
        """Rows of `vcpus`."""
        return [row for seat, guest in zip(self.seats, self.vmms, strict=True) for row in vcpu_rows(seat, guest)]

    def thread_rows(self) -> list[list[dict[str, Any]]]:
        """Rows of `threads`, a list a guest. A handler that serves several VMM processes, or guests, has its rows once."""
        guests = [thread_rows(*of_guest) for of_guest in zip(self.seats, self.served, self.vmms, strict=True)]
        seen: set[tuple[str, int]] = set()
        for seat, rows, vmms in zip(self.seats, guests, self.vmms, strict=True):
            for handler in handlers(vmms):
                if (seat.node.name, handler["pid"]) not in seen:
                    seen.add((seat.node.name, handler["pid"]))
                    rows += [row | place(seat) for row in handler["threads"]]
        return guests

    @property
    def handler_state(self) -> str:
        """What was seen of an external handler that left a vCPU asleep; empty where none did."""
        return next((one["state"] for one in handlers(self.of_all_vmms) if one["state"]), "")

    @property
    def _external(self) -> bool:
        return any(report.handler for report in self.of_all_vmms)

    @property
    def _ahead_known(self) -> bool:
        """Whether each page is touched by one vCPU, and nothing else makes or takes pages."""
        spec = self.seats[0].spec
        return not (spec.access.overlap and spec.vcpus > 1) and not spec.disturb.active

    def columns(self, vcpus: Sequence[Mapping[str, Any]], *, recovered: bool) -> dict[str, Any]:
        """Columns of `runs`; `vcpus`: the rows of its vCPUs. After a recovery the counts of a remote source are left out: its
        peer starts anew with each page server."""
        reports = self.of_all_vmms
        columns: dict[str, Any] = counters(self.served, reports)
        if self._external:
            columns |= dict.fromkeys(OF_A_PAGE_SERVER) | handler_columns(self.served, reports, self._ahead_known)
        elif not recovered:
            columns |= fetched(self.served) | prefetched(self.served)
        columns |= {run: sum(vcpu[one] for vcpu in vcpus) for run, one in SUMS_OF_VCPUS.items()}
        for state in PAGE_STATES:
            columns[f"ended_{state.replace(' ', '_')}"] = sum(report.page_states.get(state, 0) for report in reports)
        columns["rounds"] = min((len(vcpu["round_end_ns"]) for vcpu in vcpus), default=0)
        columns["rounds_ended"] = next((one.rounds_ended for one in self.served if one.rounds_ended), None)
        columns |= node_columns(self.seats, self.served, self.vmms)
        columns |= lock_reads(vcpus) | achieved(reports) | device_sleeps(reports)
        columns["pages_gone"] = sum(one.get("gone", 0) for one in self.verified) if self.verified else None
        columns["wrong_words"] = sum(one["wrong_words"] for one in self._checked(vcpus))
        return columns

    def first_wrong(self, vcpus: Sequence[Mapping[str, Any]]) -> str:
        """The first wrong word in words; empty when there is none."""
        return next((one["first_wrong"] for one in self._checked(vcpus) if one["first_wrong"]), "")

    def _checked(self, vcpus: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        disturbers = [thread for report in self.of_all_vmms for thread in report.disturbers]
        return [*vcpus, *disturbers, *self.verified]


def prepared(filled: Sequence[Mapping[str, Any]], reports: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Columns of `runs` on preparing; `filled`: one report a page server, `reports`: one a VMM process, by guest."""
    each = [report for guest in reports for report in guest]
    return {
        "fill_s": max(report["seconds"] for report in filled),
        "prepare_s": max(report["seconds"] for report in each),
        "unprepared": sum(report["unprepared"] for report in (*filled, *each)),
        **{f"{kind}_pages": sum(min(report[kind] for report in guest) for guest in reports) for kind in _native.KINDS},
    }


def vcpu_rows(seat: Seat, reports: Iterable[VmmReport]) -> list[dict[str, Any]]:
    """Rows of `vcpus` of one guest."""
    return [_vcpu_row(seat, vcpu) for report in reports for vcpu in report.vcpus]


def _vcpu_row(seat: Seat, vcpu: Mapping[str, Any]) -> dict[str, Any]:
    row = {key: value for key, value in vcpu.items() if key != "usage"}  # in its row of threads
    row |= {text: vcpu[text] or None for text in ("first_wrong", "stuck", "failure")}
    return row | {"vcpu": seat.first_vcpu + vcpu["vcpu"], "vmm": _vmm(seat, vcpu)} | place(seat)


def thread_rows(seat: Seat, served: ServerReport, reports: Iterable[VmmReport]) -> list[dict[str, Any]]:
    """Rows of `threads` of one guest: each vCPU, each VMM process's own thread and each disturbance over the measured phase, each
    thread of the page server over its life, with its counters. A vCPU's counters are in `vcpus`."""
    reports = list(reports)
    vcpus = [
        {"role": "vcpu", "number": seat.first_vcpu + vcpu["vcpu"], "vmm": _vmm(seat, vcpu)}
        | {"tid": vcpu["tid"], "cpus": vcpu["cpus"], **vcpu["usage"]}
        for report in reports
        for vcpu in report.vcpus
    ]
    servers = [{key: value for key, value in one.items() if key != "usage"} | one["usage"] for one in served.threads]
    disturbers = [row | {"vmm": seat.first_vmm + row["vmm"]} for row in disturber_rows(reports)]
    vmms = [
        {"role": "vmm", "number": seat.first_vmm + number, "vmm": seat.first_vmm + number, **report.thread}
        for number, report in enumerate(reports)
        if report.thread
    ]
    return [row | place(seat) for row in (*vcpus, *vmms, *disturbers, *servers)]


def _vmm(seat: Seat, vcpu: Mapping[str, Any]) -> int:
    return seat.first_vmm + int(vcpu["vcpu"]) // seat.spec.vcpus_per_vmm


def place(seat: Seat) -> dict[str, Any]:
    """Columns of a row of `vcpus` or `threads`: where its guest is."""
    return {"guest": seat.number, "host": seat.node.name}


def handlers(reports: Iterable[VmmReport]) -> list[dict[str, Any]]:
    """What the VMM processes saw of their external handlers, each process once."""
    return list(
        {(report.handler["host"], report.handler["pid"]): report.handler for report in reports if report.handler}.values()
    )


def handler_columns(served: Sequence[ServerReport], reports: Sequence[VmmReport], ahead_known: bool) -> dict[str, Any]:
    """What the external handlers were, used and brought; `ahead_known`: whether a page was touched by one vCPU at most."""
    found = handlers(reports)
    threads = [thread for handler in found for thread in handler["threads"]]
    vcpus = [vcpu for report in reports for vcpu in report.vcpus]
    on_demand = sum(vcpu["usage"]["minor_faults"] + vcpu["usage"]["major_faults"] for vcpu in vcpus)
    touched = sum(vcpu["pages_resolved"] for vcpu in vcpus)
    return {
        "handler_version": next((one.handler_version for one in served if one.handler_version), None),
        "handler_cpu_s": sum(thread["user_ns"] + thread["system_ns"] for thread in threads) / 1e9,
        "handler_peak_bytes": sum(handler["peak_bytes"] for handler in found),
        "handler_threads": len(threads),
        "handler_voluntary_switches": sum(thread["voluntary_switches"] for thread in threads),
        "handler_involuntary_switches": sum(thread["involuntary_switches"] for thread in threads),
        "pages_brought_ahead": max(0, touched - on_demand) if ahead_known else None,
        "pages_brought_untouched": sum(report.handler["brought_untouched"] for report in reports if report.handler),
    }


def counters(served: Iterable[ServerReport], reports: Sequence[VmmReport]) -> dict[str, int]:
    """Counters summed over all threads of the run. A request is counted by the vCPU that asks and by the page server that
    answers: it is one request."""
    vmms = [report.counters for report in reports]
    total = {key: sum(part.get(key, 0) for part in (*(one.counters for one in served), *vmms)) for key in vmms[-1]}
    return total | {key: sum(part[key] for part in vmms) for key in ("requests", "lost_races")}


def prefetched(served: Sequence[ServerReport]) -> dict[str, Any]:
    """What it brought for nothing. How far it was by when is of one guest only: clocks of several hosts are not compared."""
    if len(served) == 1:
        return dict(served[0].prefetch)
    untouched = [one.prefetch["prefetch_untouched"] for one in served if "prefetch_untouched" in one.prefetch]
    return {"prefetch_untouched": sum(untouched)} if untouched else {}


def fetched(served: Sequence[ServerReport]) -> dict[str, Any]:
    """Where contents came from; only a remote source pushes."""
    if not served[0].source:
        counts = [one.counters["fetched_pages"] for one in served if "fetched_pages" in one.counters]
        return {"fetched_on_demand": sum(counts) if counts else None, "fetched_pushed": 0, "fetched_twice": 0}
    prefixes = dict.fromkeys(("on_demand", "pushed", "twice"), "fetched_")
    columns = {prefixes.get(key, "source_") + key: sum(one.source[key] for one in served) for key in served[0].source}
    rtts = [one.source["rtt_p50_us"] for one in served if one.source["rtt_p50_us"]]
    columns["source_rtt_p50_us"] = median(rtts) if rtts else None  # nothing was asked for
    return columns


def lock_reads(vcpus: Sequence[Mapping[str, Any]]) -> dict[str, int | None]:
    """How often the vCPUs took the mmap_lock for reading, by cause and in all; None where a vCPU could not count, or was not
    asked to."""
    columns: dict[str, int | None] = {}
    for cause in LOCK_CAUSES:
        counts = [vcpu.get(f"mmap_lock_reads_{cause}") for vcpu in vcpus]
        columns[f"mmap_lock_reads_{cause}"] = None if None in counts or not counts else sum(counts)  # type: ignore[arg-type]
    by_cause = list(columns.values())
    total = None if None in by_cause else sum(count or 0 for count in by_cause)
    return columns | {"mmap_lock_reads": total}


def achieved(reports: Iterable[VmmReport]) -> dict[str, Any]:
    """Units a second that the disturbances did, by role; null where there was none. `not_achieved` names those that fell
    short."""
    columns: dict[str, Any] = {}
    short = []
    all_threads = [thread for report in reports for thread in report.disturbers]
    for role in ROLES:
        threads = [thread for thread in all_threads if thread["role"] == role]
        if not threads:
            continue
        asked = sum(thread["rate_per_s"] for thread in threads)
        done = sum(per_s(thread) for thread in threads)
        columns[f"{role}_achieved_per_s"] = done
        if done < ACHIEVED_FROM * asked:
            short.append(f"{role}: {done:.0f} of {asked:.0f} a second")
    return columns | {"not_achieved": "; ".join(short) or None}


def device_sleeps(reports: Iterable[VmmReport]) -> dict[str, Any]:
    """How long the devices' accesses took that slept in the kernel, in ns; null where none did."""
    devices = [thread for report in reports for thread in report.disturbers if thread["role"] == "device"]
    sleeps = Quantiles()
    for thread in devices:
        if thread["sleeps_ns"]:
            sleeps.add(np.repeat(*np.array(thread["sleeps_ns"], np.int64).T))
    return {
        "device_sleep_p50_ns": sleeps.per_mille(500),
        "device_sleep_p99_ns": sleeps.per_mille(990),
        "device_sleep_max_ns": max((thread["longest_sleep_ns"] for thread in devices), default=0) or None,
    }


def disturber_rows(reports: Iterable[VmmReport]) -> list[dict[str, Any]]:
    """Rows of `threads`: each disturbance over the measured phase, with its counters."""
    return [
        {key: value for key, value in thread.items() if key not in NOT_COLUMNS}
        | {"vmm": vmm, "asked_per_s": thread["rate_per_s"] or None, "achieved_per_s": per_s(thread), **thread["usage"]}
        for vmm, report in enumerate(reports)
        for thread in report.disturbers
    ]


def per_s(thread: Mapping[str, Any]) -> float:
    """Units a second of one thread; 0 when it did not start."""
    return float(thread["done"] / thread["seconds"]) if thread["seconds"] > 0 else 0.0
