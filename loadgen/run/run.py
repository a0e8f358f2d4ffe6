"""One run: prepare its guests on their actors, measure, verify, store. However it ends, the run leaves a row."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np

from loadgen.cluster.answers import Answers, asked
from loadgen.cluster.nodes import Node
from loadgen.cluster.session import Seat, Session
from loadgen.plan.plan import PlannedRun
from loadgen.run.calibration import calibrate, calibration_columns
from loadgen.run.causes import explained
from loadgen.run.columns import Reports, prepared
from loadgen.run.host_usage import Watch
from loadgen.run.measured import ENDING_ERRORS, Measured, ending
from loadgen.run.measuring import Progress, measure
from loadgen.run.pressure import Pressures
from loadgen.run.recovery import Guests, prepared_anew
from loadgen.run.rounds import CommonRounds
from loadgen.run.run_row import describe, environment
from loadgen.run.start_barrier import open_gate
from results.store.dataset import DataSet, RunWriter
from workers import _native
from workers.spec import RunSpec

CHUNK_FAULTS = 1_000_000


def run_guests(session: Session, planned: PlannedRun, dataset: DataSet, progress: Progress, waited_s: float = 0.0) -> Measured:
    """Run `planned` once and store it. `waited_s`: how long its hosts were waited for.

    Raises KeyboardInterrupt after having stored what was measured, and DataSetError.
    """
    spec = planned.spec
    began = session.begin_run(waited_s)
    measured = Measured({"started_at": datetime.now(UTC), "waited_s": waited_s}, [])
    nodes = session.nodes_of(planned)  # now: a node that is lost meanwhile is forgotten
    pressures = Pressures(nodes)
    seats: list[Seat] = []
    with dataset.writer(spec.run_id, spec.sweep_id) as writer:
        try:
            seats = session.seats(planned)
            answers = Answers(spec.watchdog_s)
            began += _idle_share(session, seats, measured, answers)  # it is the session's, not this run's
            session.host_changes.keep(spec.swap)
            seats = with_sources(session, seats, answers)
            _go(seats, measured, writer, progress, answers, pressures)
        except ENDING_ERRORS as error:
            measured.end(*ending(error))
            measured.interruption = measured.interruption or (error if isinstance(error, KeyboardInterrupt) else None)
        measured.reason = explained(measured, seats, pressures)
        wall_s = session.end_run() - began
        measured.columns |= {"idle_actors": session.idle_actors(seats), "wall_s": wall_s}
        measured.row = writer.commit(_row(planned, seats, nodes, measured), measured.vcpus, measured.threads)
    if measured.interruption is not None:
        raise measured.interruption
    if measured.status != "ok":  # a process is lost, or is not as the next run needs it
        session.renew()
    return measured


def _go(
    seats: list[Seat], measured: Measured, writer: RunWriter, progress: Progress, answers: Answers, pressures: Pressures
) -> None:
    """The run itself, in the order of the seam between driver and actors."""
    spec, columns = seats[0].spec, measured.columns
    before = prepared_anew(seats, lambda: calibrate(seats, answers), answers, recover=spec.recover)
    columns |= calibration_columns(before, {})
    columns |= prepared_anew(seats, lambda: _prepare(seats, answers), answers, recover=spec.recover)
    if columns["unprepared"]:
        measured.reason = f"{columns['unprepared']} pages could not be brought into the state asked for"
    pressures.begin()
    watch, guests = Watch(seats), Guests(seats, answers, recover=spec.recover)
    runs = guests.run()
    if spec.gated:
        guests.wait_armed(runs)  # a page server that dies meanwhile is replaced
        columns["start_gate_s"] = open_gate(guests.seats, guests.ask_at_start, rounds=1)
    with CommonRounds(guests, spec, answers):
        lag_s = measure(guests, spec, measured, progress)
    watch.end()
    pressures.end()
    stop_reason = next(filter(None, guests.ask("stop", "stop_reason")), "")
    reports = _reports(guests, spec, columns, answers)
    if later := reports.unprepared:
        columns["unprepared"] += later
        measured.reason = measured.reason or f"{later} pages could not be brought into the state asked for between rounds"
    _fill(measured, reports, watch, guests, lag_s)
    columns |= pressures.columns(columns["distrust"])
    if stop_reason:
        stop_reason = "; ".join(filter(None, (stop_reason, reports.handler_state)))
        measured.end("stuck" if stop_reason.startswith("stuck: ") else "failed", stop_reason.removeprefix("stuck: "))
    if measured.status == "ok":
        columns |= calibration_columns(before, calibrate(guests.seats, answers))
    store_began = time.perf_counter()
    _store(guests.seats, writer, answers)
    columns["store_s"] = time.perf_counter() - store_began
    answers.get("close", asked(guests.vcpus, "close"))
    guests.close()


def _prepare(seats: Sequence[Seat], answers: Answers) -> dict[str, Any]:
    """Everything up to the start barrier; columns of the run's row."""
    opened = answers.get("open", [(seat.server, seat.server.open.remote(seat.spec)) for seat in seats])
    # The page servers wait for the VMM processes' userfaultfds while these are being opened.
    opening = [
        (vcpu, vcpu.open.remote(seat.spec, number, address))
        for seat, (address, _) in zip(seats, opened, strict=True)
        for number, vcpu in enumerate(seat.vcpus)
    ]
    answers.get("open", [*opening, *asked([seat.server for seat in seats], "serve")])
    reports = answers.get("prepare", asked([vcpu for seat in seats for vcpu in seat.vcpus], "prepare"))
    return prepared([filled for _, filled in opened], _by_guest(seats, reports))


def _reports(guests: Guests, spec: RunSpec, columns: dict[str, Any], answers: Answers) -> Reports:
    """What page servers and VMM processes report when the measured phase is over, and what verification found."""
    served = guests.ask("finish", "finish")
    vmms = answers.get("finish", asked(guests.vcpus, "finish"))
    verify_began = time.perf_counter()
    verified = answers.get("verify", asked(guests.vcpus, "verify")) if spec.verify != "none" else []
    columns["verify_s"] = time.perf_counter() - verify_began
    return Reports(guests.seats, served, _by_guest(guests.seats, vmms), verified)


def _fill(measured: Measured, reports: Reports, watch: Watch, guests: Guests, lag_s: float | None) -> None:
    """The columns and rows that come from the reports."""
    columns = measured.columns
    threads = reports.thread_rows()
    measured.threads += [*(row for guest in threads for row in guest), watch.driver_row()]
    measured.vcpus += reports.vcpu_rows()
    columns |= watch.columns(threads, lag_s=lag_s, unprepared=columns["unprepared"])
    columns |= guests.columns(columns["distrust"])
    columns |= reports.columns(measured.vcpus, recovered=guests.recoveries > 0)
    if wrong := reports.first_wrong(measured.vcpus):
        measured.end("corrupt", wrong)


def _store(seats: Sequence[Seat], writer: RunWriter, answers: Answers) -> None:
    """The fault records of every VMM process."""
    for seat in seats:
        stored = writer.faults(_native.KINDS, _native.OUTCOMES, exits=_native.EXITS, guest=seat.number, host=seat.node.name)
        for numbers, rounds, faults in _fault_chunks(seat.vcpus, answers):
            stored.add(numbers + np.uint16(seat.first_vcpu), faults, rounds)


def _fault_chunks(vcpus: Sequence[Any], answers: Answers) -> Iterator[tuple[Any, Any, Any]]:
    """Chunks of every VMM process's records, the next one under way while one is written."""
    for vcpu in vcpus:
        start = 0
        ahead = asked([vcpu], "fault_chunk", start, CHUNK_FAULTS)
        while True:
            [(numbers, rounds, faults)] = answers.get("store", ahead)
            start += numbers.size
            if numbers.size == CHUNK_FAULTS:
                ahead = asked([vcpu], "fault_chunk", start, CHUNK_FAULTS)
            if numbers.size:
                yield numbers, rounds, faults
            if numbers.size < CHUNK_FAULTS:
                break


def with_sources(session: Session, seats: list[Seat], answers: Answers) -> list[Seat]:
    """The guests with the address of their remote source: one of the session's own when none was given."""
    source = seats[0].spec.source
    if source.name != "remote" or source.address:
        return seats
    opened = [(actor, actor.open.remote(seat.spec, host)) for seat in seats for actor, host in (session.source(seat),)]
    return [seat.fed_from(address) for seat, address in zip(seats, answers.get("source", opened), strict=True)]


def _idle_share(session: Session, seats: Sequence[Seat], measured: Measured, answers: Answers) -> float:
    """What idle actors use, as a column of the run's row. Returns the seconds it took. Raises Loss."""
    began = time.perf_counter()

    def share() -> float:
        return session.idle_cpu_share(answers)

    measured.columns["idle_actors_cpu_share"] = prepared_anew(seats, share, answers, recover=seats[0].spec.recover)
    return time.perf_counter() - began


def _row(planned: PlannedRun, seats: Sequence[Seat], nodes: Sequence[Node], measured: Measured) -> dict[str, Any]:
    described = dataclasses.replace(planned, spec=seats[0].spec) if seats else planned
    row = describe(described) | environment(nodes) | measured.columns
    return row | {"status": measured.status, "reason": measured.reason or None}


def _by_guest(seats: Sequence[Seat], values: Sequence[Any]) -> list[list[Any]]:
    """One value a VMM process, in the guests' order, as one list a guest."""
    rest = iter(values)
    return [list(islice(rest, len(seat.vcpus))) for seat in seats]
