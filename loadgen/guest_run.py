"""One run: prepare a guest on its actors, measure, verify, store. Whatever happens, the run leaves a row that says so."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from loadgen.host import Host
from loadgen.host_changes import HostChangeError
from loadgen.plan import PlannedRun
from loadgen.run_row import describe, environment
from loadgen.self_watch import driver_row, snapshot, watched
from loadgen.session import Session
from loadgen.thread_rows import thread_rows
from results.store import DataSet
from workers import _native
from workers.reports import ServerReport
from workers.spec import RunSpec

POLL_S = 0.5
STEP_TIMEOUT_S = 300.0
STOP_GRACE_S = 15.0
CHUNK_FAULTS = 1_000_000

NOTHING_SEEN = {
    "seconds": 0.0,
    "accesses": 0,
    "faults": 0,
    "pages_resolved": 0,
    "running": 0,
    "finished": 0,
    "faults_by_kind": {},
    "latency_p99_ns": None,
    "standing": [],
}
"""A look before the first answer."""

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


def run_guest(session: Session, planned: PlannedRun, dataset: DataSet, host: Host, progress: Progress) -> Measured:
    """Run `planned` once and store it. Raises KeyboardInterrupt after having stored what was measured, and DataSetError."""
    spec = planned.spec
    began = session.begin_run()
    measured = Measured({"started_at": datetime.now(UTC)}, [])
    with dataset.writer(spec.run_id, spec.sweep_id) as writer:
        try:
            server, vcpus = session.actors(spec.vmms)
            calibration_began = time.perf_counter()
            measured.columns["emulated_exit_ns"] = session.exit_ns(_native.exit_kind(spec.strategy.name, spec.strategy.options))
            measured.columns["idle_actors_cpu_share"] = session.idle_cpu_share()
            began += time.perf_counter() - calibration_began  # the calibrations are the session's, not this run's
            planned = dataclasses.replace(planned, spec=with_source(session, spec))
            session.host_changes.keep(spec.swap)
            _measure(planned, server, vcpus, measured, progress)
            store_began = time.perf_counter()
            for numbers, faults in _fault_chunks(vcpus):
                writer.faults(numbers, faults, _native.KINDS, _native.OUTCOMES)
            measured.columns["store_s"] = time.perf_counter() - store_began
            _get([vcpu.close.remote() for vcpu in vcpus])
            _get([server.close.remote()])
        except KeyboardInterrupt:
            measured.fail("interrupted", "Ctrl-C")
            session.renew()
        except HostChangeError as error:
            measured.fail("failed", str(error))
        except RayActorError as error:
            measured.fail("crashed", _cause(server) or f"{session.name_of(error.actor_id)} died: {_first_line(error)}")
            session.renew()
        except RayTaskError as error:
            measured.fail("failed", _first_line(error.cause))
            session.renew()
        except RayError as error:
            measured.fail("failed", _first_line(error))
            session.renew()
        wall_s = session.end_run() - began
        measured.columns |= {"idle_actors": session.idle_actors(spec.vmms), "wall_s": wall_s}
        row = describe(planned) | environment(host) | measured.columns
        row |= {"status": measured.status, "reason": measured.reason or None}
        measured.row = writer.commit(row, measured.vcpus, measured.threads)
    if measured.interrupted:
        raise KeyboardInterrupt
    return measured


def with_source(session: Session, spec: RunSpec) -> RunSpec:
    """`spec` with the address of its remote source: one of the session's own when none was given."""
    if spec.source.name != "remote" or spec.source.address:
        return spec
    [address] = _get([session.source().open.remote(spec)])
    return dataclasses.replace(spec, source=dataclasses.replace(spec.source, address=address))


def _measure(planned: PlannedRun, server: Any, vcpus: list[Any], measured: Measured, progress: Progress) -> None:
    """The run itself, in the order of the seam between driver and actors."""
    spec, columns = planned.spec, measured.columns
    [(address, filled)] = _get([server.open.remote(spec)])
    columns["fill_s"] = filled["seconds"]
    # The page server waits for the VMM processes' userfaultfds while they are being opened.
    _get([*(vcpu.open.remote(spec, number, address) for number, vcpu in enumerate(vcpus)), server.serve.remote()])
    prepared = _get([vcpu.prepare.remote() for vcpu in vcpus])
    columns["prepare_s"] = max(one["seconds"] for one in prepared)
    columns["unprepared"] = filled["unprepared"] + sum(one["unprepared"] for one in prepared)
    if columns["unprepared"]:
        measured.reason = f"{columns['unprepared']} pages could not be brought into the state asked for"
    for kind in _native.KINDS:
        columns[f"{kind}_pages"] = min(one[kind] for one in prepared)

    before = snapshot()
    lag_s = _wait(server, [vcpu.run.remote() for vcpu in vcpus], Deadline(spec), measured, progress)
    after = snapshot()
    [stop_reason] = _get([server.stop_reason.remote()])
    [served] = _get([server.finish.remote()])
    reports = _get([vcpu.finish.remote() for vcpu in vcpus])
    verify_began = time.perf_counter()
    verified = _get([vcpu.verify.remote() for vcpu in vcpus]) if spec.verify != "none" else []
    columns["verify_s"] = time.perf_counter() - verify_began

    threads = thread_rows(served, reports)
    measured.threads += [*threads, driver_row(before, after)]
    columns |= watched(before, after, threads, lag_s=lag_s, unprepared=columns["unprepared"], exclusive=spec.placement.exclusive)
    measured.vcpus += [vcpu | {"vmm": number} for number, one in enumerate(reports) for vcpu in one.vcpus]
    for vcpu in measured.vcpus:
        del vcpu["usage"]  # in its row of threads
        for text in ("first_wrong", "stuck", "failure"):
            vcpu[text] = vcpu[text] or None
    columns |= _counters([served.counters, *(one.counters for one in reports)])
    columns |= _fetched(served) | served.prefetch
    columns |= {key: sum(vcpu[key] for vcpu in measured.vcpus) for key in ("accesses", "faults", "pages_resolved")}
    for state in ("unresolved", "in flight", "resolved", "poisoned", "discarded"):
        columns[f"ended_{state.replace(' ', '_')}"] = sum(one.page_states.get(state, 0) for one in reports)
    columns["wrong_words"] = sum(one["wrong_words"] for one in (*measured.vcpus, *verified))

    wrong = [text for text in (*(one["first_wrong"] for one in (*measured.vcpus, *verified)),) if text]
    if wrong:
        measured.fail("corrupt", wrong[0])
    if stop_reason:
        measured.fail("stuck" if stop_reason.startswith("stuck: ") else "failed", stop_reason.removeprefix("stuck: "))


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


def _wait(server: Any, runs: list[Any], deadline: Deadline, measured: Measured, progress: Progress) -> float | None:
    """Until every VMM process's vCPUs have ended; looks at most twice a second. A VMM process that is lost ends the run at once;
    Ctrl-C and the deadline stop the guest and wait it out. Returns the most seconds by which a look came late."""
    pending, looks = runs, Looks(server)
    try:
        while pending:
            began = time.monotonic()
            ended, pending = ray.wait(pending, num_returns=1, timeout=POLL_S)
            _get(ended)
            if pending and time.monotonic() - began >= POLL_S:
                now = looks.take(due=began + POLL_S)
                progress(now)
                if deadline.passed(now):
                    measured.fail("stuck", f"no vCPU got on for {deadline.limit_s:.0f} s, and no VMM process said why")
                    _stop(server, pending, "no progress")
                    break
    except KeyboardInterrupt:
        measured.fail("interrupted", "Ctrl-C")
        _stop(server, pending, "interrupted")
    return looks.lag_s


class Looks:
    """Looks at the run through the page server, which may itself not answer: then the latest look stands, and says so.

    `lag_s`: the most by which an answer came late, None before the first was due.
    """

    def __init__(self, server: Any) -> None:
        self.lag_s: float | None = None
        self._server = server
        self._asked: Any = None
        self._due = 0.0
        self._latest: dict[str, Any] = NOTHING_SEEN

    def take(self, due: float) -> dict[str, Any]:
        """The look that was due at `due` (monotonic clock); waits for its answer no longer than until the next one is."""
        if self._asked is None:
            self._asked, self._due = self._server.look.remote(), due
        answered, _ = ray.wait([self._asked], num_returns=1, timeout=POLL_S)
        late_s = time.monotonic() - self._due
        self.lag_s = max(self.lag_s or 0.0, late_s)
        if not answered:
            return self._latest | {"unanswered_s": late_s}
        [self._latest] = _get(answered)
        self._asked = None
        return self._latest


def _stop(server: Any, pending: list[Any], reason: str) -> None:
    with contextlib.suppress(RayError):
        ray.get([server.abort.remote(reason)], timeout=STOP_GRACE_S)
    ray.get(pending, timeout=STOP_GRACE_S)


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


def _counters(parts: list[dict[str, int]]) -> dict[str, int]:
    # A request is counted by the vCPU that asks and by the page server that answers: it is one request.
    total = {key: sum(part.get(key, 0) for part in parts) for key in parts[-1]}
    total["requests"] = sum(part["requests"] for part in parts[1:])
    total["lost_races"] = sum(part["lost_races"] for part in parts[1:])
    return total


def _fetched(served: ServerReport) -> dict[str, Any]:
    """Where contents came from, by the data set's columns; only a remote source pushes."""
    if not served.source:
        fetched = served.counters.get("fetched_pages")
        return {"fetched_on_demand": fetched, "fetched_pushed": 0, "fetched_twice": 0}
    prefixes = dict.fromkeys(("on_demand", "pushed", "twice"), "fetched_")
    columns = {prefixes.get(key, "source_") + key: value for key, value in served.source.items()}
    columns["source_rtt_p50_us"] = columns["source_rtt_p50_us"] or None  # nothing was asked for
    return columns


def _cause(server: Any) -> str:
    """What the guest said before a VMM process ended itself; empty when it did not say, or the page server is the one gone."""
    try:
        [reason] = _get([server.stop_reason.remote()])
    except (RayError, TimeoutError):
        return ""
    return str(reason) if reason.startswith("memory error: ") else ""


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
