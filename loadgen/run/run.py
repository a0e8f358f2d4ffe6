"""One run: prepare its guests on their actors, measure, verify, store. Whatever happens, the run leaves a row that says so."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from statistics import median
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from loadgen.cluster.session import Seat, Session
from loadgen.host.changes import HostChangeError
from loadgen.plan.plan import PlannedRun
from loadgen.run.disturb_columns import achieved, device_sleeps
from loadgen.run.host_usage import Watch
from loadgen.run.live_status import POLL_S, RunLooks
from loadgen.run.lock_columns import lock_reads
from loadgen.run.recovery import GuestLost, Losses, prepared_anew
from loadgen.run.rows import thread_rows, vcpu_rows
from loadgen.run.run_row import describe, environment
from loadgen.run.start_barrier import open_gate
from results.store.dataset import DataSet, DataSetError
from workers import _native
from workers.registry import engine_entry
from workers.reports import ServerReport, VmmReport
from workers.spec import RunSpec

STEP_TIMEOUT_S = 300.0
STOP_GRACE_S = 15.0
CHUNK_FAULTS = 1_000_000

Progress = Callable[[dict[str, Any]], None]


@dataclass
class Measured:
    """What a run has come to so far: columns of its row, and its vCPUs' and threads' rows. `row`: the row as it was stored."""

    columns: dict[str, Any]
    vcpus: list[dict[str, Any]]
    threads: list[dict[str, Any]] = field(default_factory=list)
    status: str = "ok"
    reason: str = ""
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it: the sweep ends with it."""
        return self.status == "interrupted"

    def fail(self, status: str, reason: str) -> None:
        """The first failure stays."""
        if self.status == "ok":
            self.status, self.reason = status, reason


def run_guests(session: Session, planned: PlannedRun, dataset: DataSet, progress: Progress, waited_s: float = 0.0) -> Measured:
    """Run `planned` once and store it. `waited_s`: how long its hosts were waited for.

    Raises KeyboardInterrupt after having stored what was measured, and DataSetError.
    """
    spec = planned.spec
    began = session.begin_run() + waited_s
    measured = Measured({"started_at": datetime.now(UTC), "waited_s": waited_s}, [])
    nodes = session.nodes_of(planned)  # asked for now: those that are lost meanwhile are forgotten
    seats: list[Seat] = []

    def died(error: RayActorError) -> None:
        cause = _first([_cause(seat.server) for seat in seats])
        measured.fail("crashed", cause or f"{session.name_of(error.actor_id)} died: {_first_line(error)}")

    with dataset.writer(spec.run_id, spec.sweep_id) as writer:
        try:
            seats = session.seats(planned)
            calibration_began = time.perf_counter()
            measured.columns |= prepared_anew(seats, lambda: _calibrate(session, seats), recover=spec.recover)
            began += time.perf_counter() - calibration_began  # the calibrations are the session's, not this run's
            session.host_changes.keep(spec.swap)
            seats = with_sources(session, seats)
            losses = Losses(seats, died, recover=spec.recover)
            _measure(seats, measured, losses, progress)
            store_began = time.perf_counter()
            for seat in losses.seats:
                stored = writer.faults(
                    _native.KINDS, _native.OUTCOMES, exits=_native.EXITS, guest=seat.number, host=seat.node.name
                )
                for numbers, faults in _fault_chunks(seat.vcpus):
                    stored.add(numbers + np.uint16(seat.first_vcpu), faults)
            measured.columns["store_s"] = time.perf_counter() - store_began
            _get([vcpu.close.remote() for seat in losses.seats for vcpu in seat.vcpus])
            losses.close()
            if measured.status != "ok":  # somebody died, or did not do what was asked of it
                session.renew()
        except KeyboardInterrupt:
            measured.fail("interrupted", "Ctrl-C")
            session.renew()
        except HostChangeError as error:
            measured.fail("failed", str(error))
        except GuestLost:
            session.renew()
        except RayActorError as error:
            died(error)
            session.renew()
        except RayTaskError as error:
            measured.fail("failed", _first_line(error.cause))
            session.renew()
        except RayError as error:
            measured.fail("failed", _first_line(error))
            session.renew()
        wall_s = session.end_run() - began
        measured.columns |= {"idle_actors": session.idle_actors(seats), "wall_s": wall_s}
        described = dataclasses.replace(planned, spec=seats[0].spec) if seats else planned
        row = describe(described) | environment(nodes) | measured.columns
        row |= {"status": measured.status, "reason": measured.reason or None}
        measured.row = writer.commit(row, measured.vcpus, measured.threads)
    if measured.interrupted:
        raise KeyboardInterrupt
    return measured


def with_sources(session: Session, seats: list[Seat]) -> list[Seat]:
    """The guests with the address of their remote source: one of the session's own when none was given."""
    source = seats[0].spec.source
    if source.name != "remote" or source.address:
        return seats
    opened = []
    for seat in seats:
        actor, host = session.source(seat)
        opened.append(actor.open.remote(seat.spec, host))
    return [seat.fed_from(address) for seat, address in zip(seats, _get(opened), strict=True)]


def emulated_exit(spec: RunSpec) -> str:
    """The kind of exit whose emulation the run pays for; `none` where exits are real."""
    if not engine_entry(spec.engine)["emulates_exits"]:
        return "none"
    return _native.exit_kind(spec.strategy.name, spec.strategy.options)


def _calibrate(session: Session, seats: list[Seat]) -> dict[str, Any]:
    """What the rig costs by itself; columns of the run's row."""
    kind = emulated_exit(seats[0].spec)
    exit_ns = max(session.exit_ns(seat, kind) for seat in seats)
    return {"emulated_exit_ns": exit_ns, "idle_actors_cpu_share": session.idle_cpu_share()}


def _prepare(seats: list[Seat]) -> dict[str, Any]:
    """Everything up to the start barrier; columns of the run's row."""
    opened = _get([seat.server.open.remote(seat.spec) for seat in seats])
    # The page servers wait for the VMM processes' userfaultfds while they are being opened.
    opening = [
        vcpu.open.remote(seat.spec, number, address)
        for seat, (address, _) in zip(seats, opened, strict=True)
        for number, vcpu in enumerate(seat.vcpus)
    ]
    _get([*opening, *(seat.server.serve.remote() for seat in seats)])
    prepared = _by_guest(seats, _get([vcpu.prepare.remote() for seat in seats for vcpu in seat.vcpus]))
    unprepared = sum(filled["unprepared"] for _, filled in opened)
    return {
        "fill_s": max(filled["seconds"] for _, filled in opened),
        "prepare_s": max(one["seconds"] for guest in prepared for one in guest),
        "unprepared": unprepared + sum(one["unprepared"] for guest in prepared for one in guest),
        **{f"{kind}_pages": sum(min(one[kind] for one in guest) for guest in prepared) for kind in _native.KINDS},
    }


def _measure(seats: list[Seat], measured: Measured, losses: Losses, progress: Progress) -> None:
    """The run itself, in the order of the seam between driver and actors."""
    spec, columns = seats[0].spec, measured.columns
    columns |= prepared_anew(seats, lambda: _prepare(seats), recover=spec.recover)
    if columns["unprepared"]:
        measured.reason = f"{columns['unprepared']} pages could not be brought into the state asked for"

    watch = Watch(seats)
    runs = losses.run()
    if spec.gated:
        columns["start_gate_s"] = open_gate(seats, runs)
    lag_s = _wait(losses, spec, measured, progress)
    watch.end()
    stop_reason = _first(losses.ask("stop_reason"))
    served = losses.ask("finish")
    seats = losses.seats
    vcpus = [vcpu for seat in seats for vcpu in seat.vcpus]
    reports = _by_guest(seats, _get([vcpu.finish.remote() for vcpu in vcpus]))
    verify_began = time.perf_counter()
    verified = _get([vcpu.verify.remote() for vcpu in vcpus]) if spec.verify != "none" else []
    columns["verify_s"] = time.perf_counter() - verify_began

    threads = [thread_rows(*of_guest) for of_guest in zip(seats, served, reports, strict=True)]
    measured.threads += [*(row for guest in threads for row in guest), watch.driver_row()]
    columns |= watch.columns(threads, lag_s=lag_s, unprepared=columns["unprepared"])
    for seat, guest in zip(seats, reports, strict=True):
        measured.vcpus += vcpu_rows(seat, guest)
    columns |= losses.columns(columns["distrust"])
    columns |= _counters(served, [report for guest in reports for report in guest])
    if not losses.recoveries:  # a remote source's peer counts anew in each page server
        columns |= _fetched(served) | _prefetched(served)
    columns |= {key: sum(vcpu[key] for vcpu in measured.vcpus) for key in ("accesses", "faults", "pages_resolved")}
    for state in ("unresolved", "in flight", "resolved", "poisoned", "discarded"):
        columns[f"ended_{state.replace(' ', '_')}"] = sum(one.page_states.get(state, 0) for guest in reports for one in guest)
    columns |= lock_reads(measured.vcpus)
    columns |= achieved([report for guest in reports for report in guest])
    columns |= device_sleeps([report for guest in reports for report in guest])
    columns["pages_gone"] = sum(one.get("gone", 0) for one in verified) if verified else None
    disturbers = [thread for guest in reports for report in guest for thread in report.disturbers]
    checked = [*measured.vcpus, *disturbers, *verified]
    columns["wrong_words"] = sum(one["wrong_words"] for one in checked)

    if wrong := _first(one["first_wrong"] for one in checked):
        measured.fail("corrupt", wrong)
    if stop_reason:
        measured.fail("stuck" if stop_reason.startswith("stuck: ") else "failed", stop_reason.removeprefix("stuck: "))


def not_stored(error: DataSetError) -> Measured:
    """A run that the data set could not take."""
    return Measured({}, [], status="not stored", reason=str(error))


class Deadline:
    """The driver's own watchdog, behind the one of the VMM processes: theirs cannot speak when their process is stopped.

    It is passed when nothing has changed for twice the watchdog's time, the longest wait a vCPU was asked to make, and a
    grace. A watchdog of 0 s is off, here too.
    """

    def __init__(self, spec: RunSpec) -> None:
        access = spec.access
        longest_wait_s = access.think_ns / 1e9 + (1 / access.rate_per_s if access.rate_per_s > 0 else 0.0)
        self.limit_s = 2 * spec.watchdog_s + longest_wait_s + STOP_GRACE_S if spec.watchdog_s > 0 else math.inf
        self._seen: tuple[int, ...] = ()
        self._since = time.monotonic()

    def passed(self, now: dict[str, Any]) -> bool:
        """Whether the run's progress has stood still for too long."""
        counts = tuple(now[key] for key in ("accesses", "faults", "pages_resolved", "running", "finished"))
        if counts != self._seen:
            self._seen, self._since = counts, time.monotonic()
        return time.monotonic() - self._since > self.limit_s


def _wait(losses: Losses, spec: RunSpec, measured: Measured, progress: Progress) -> float | None:
    """Until every VMM process's vCPUs have ended, or have been lost; looks at most twice a second. Ctrl-C and the deadline stop
    the guests and wait them out. Returns the most seconds by which a look came late. Raises GuestLost when no guest is left."""
    looks, deadline = RunLooks([seat.server for seat in losses.seats], spec.vcpus), Deadline(spec)
    try:
        while losses.pending:
            began = time.monotonic()
            losses.wait()
            if losses.pending and time.monotonic() - began >= POLL_S:
                now = losses.look(looks, due=began + POLL_S)
                if now is None:
                    continue
                progress(now)
                if deadline.passed(now):
                    measured.fail("stuck", f"no vCPU got on for {deadline.limit_s:.0f} s, and no VMM process said why")
                    _stop(losses, "no progress")
                    break
    except KeyboardInterrupt:
        measured.fail("interrupted", "Ctrl-C")
        _stop(losses, "interrupted")
    return looks.lag_s


def _stop(losses: Losses, reason: str) -> None:
    with contextlib.suppress(RayError):
        ray.get([seat.server.abort.remote(reason) for seat in losses.seats], timeout=STOP_GRACE_S)
    ray.get(losses.pending, timeout=STOP_GRACE_S)


def _fault_chunks(vcpus: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Chunks of every VMM process's records, the next one under way while one is written."""
    for vcpu in vcpus:
        start = 0
        ahead = vcpu.fault_chunk.remote(start, CHUNK_FAULTS)
        while True:
            [(numbers, faults)] = _get([ahead])
            if numbers.size == 0:
                break
            start += numbers.size
            if numbers.size == CHUNK_FAULTS:
                ahead = vcpu.fault_chunk.remote(start, CHUNK_FAULTS)
            yield numbers, faults
            if numbers.size < CHUNK_FAULTS:
                break


def _get(references: list[Any]) -> list[Any]:
    values: list[Any] = ray.get(references, timeout=STEP_TIMEOUT_S)
    return values


def _by_guest(seats: list[Seat], values: list[Any]) -> list[list[Any]]:
    """One value a VMM process, in the guests' order, as one list a guest."""
    rest = iter(values)
    return [list(islice(rest, len(seat.vcpus))) for seat in seats]


def _counters(served: list[ServerReport], reports: list[VmmReport]) -> dict[str, int]:
    # A request is counted by the vCPU that asks and by the page server that answers: it is one request.
    vmms = [report.counters for report in reports]
    total = {key: sum(part.get(key, 0) for part in (*(one.counters for one in served), *vmms)) for key in vmms[-1]}
    total |= {key: sum(part[key] for part in vmms) for key in ("requests", "lost_races")}
    return total


def _prefetched(served: list[ServerReport]) -> dict[str, Any]:
    """How far the background stream had got by when; of one guest, for clocks of several are not compared."""
    return dict(served[0].prefetch) if len(served) == 1 else {}


def _fetched(served: list[ServerReport]) -> dict[str, Any]:
    """Where contents came from, by the data set's columns; only a remote source pushes."""
    if not served[0].source:
        counts = [one.counters["fetched_pages"] for one in served if "fetched_pages" in one.counters]
        return {"fetched_on_demand": sum(counts) if counts else None, "fetched_pushed": 0, "fetched_twice": 0}
    prefixes = dict.fromkeys(("on_demand", "pushed", "twice"), "fetched_")
    columns = {prefixes.get(key, "source_") + key: sum(one.source[key] for one in served) for key in served[0].source}
    rtts = [one.source["rtt_p50_us"] for one in served if one.source["rtt_p50_us"]]
    columns["source_rtt_p50_us"] = median(rtts) if rtts else None  # nothing was asked for
    return columns


def _first(texts: Iterable[str | None]) -> str:
    """The first text that says something; empty when none does."""
    return next((text for text in texts if text), "")


def _cause(server: Any) -> str:
    """What the guest said before a VMM process ended itself; empty when it did not say, or the page server is the one gone."""
    try:
        [reason] = _get([server.stop_reason.remote()])
    except (RayError, TimeoutError):
        return ""
    return str(reason) if reason.startswith("memory error: ") else ""


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
