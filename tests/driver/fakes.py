"""Actors made of plain Python: each call is written down, and can be made to fail."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.exceptions import ActorDiedError

from loadgen.cluster.answers import Answers
from loadgen.cluster.session import Seat
from loadgen.host.cgroups import Pressure
from loadgen.host.interference import Snapshot, snapshot
from loadgen.host.probe import Host
from loadgen.plan.plan import PlannedRun
from tests.driver.fake_ray import Reference
from workers import _native
from workers.reports import GuestAddress, ProcessUsage, ServerReport, VmmReport
from workers.spec import RunSpec, SwapSpec

COUNTERS = dict.fromkeys(
    ("trips", "lost_races", "requests", "events", "delays", "delay_ns", "stray_waits", "records_dropped", "eexist"), 0
)

USAGE = {
    "user_ns": 0,
    "system_ns": 0,
    "voluntary_switches": 2,
    "involuntary_switches": 3,
    "minor_faults": 0,
    "major_faults": 0,
}


class Method:
    """`actor.method.remote(...)`."""

    def __init__(self, actor: Actor, name: str) -> None:
        self.actor, self.name = actor, name

    def options(self, concurrency_group: str) -> Method:
        """Called while another method is under way."""
        assert concurrency_group == "aside"
        return self

    def remote(self, *arguments: Any) -> Reference:
        """The call starts now, as an actor's does; what it raises is raised by `get`."""
        self.actor.journal.append(f"{self.actor.name}.{self.name}")
        failure = self.actor.failures.get(self.name)
        self.actor.frozen |= self.name == self.actor.freezes_at

        def call() -> Any:
            if failure is not None:
                raise failure
            return getattr(self.actor, f"do_{self.name}")(*arguments)

        switch = {"run": "ended", "look": "answers", "armed": "arms"}.get(self.name)

        def done() -> bool:
            if self.actor.frozen or self.name in self.actor.hangs:
                return False
            return failure is not None or switch is None or getattr(self.actor, switch)

        return Reference(self.name, call, done)


class Actor:
    """What both kinds of actors have in common. `frozen`: it answers nothing; `hangs`: steps that make no progress in it."""

    def __init__(self, name: str, journal: list[str]) -> None:
        self.name, self.journal = name, journal
        self.node: Any = None
        self.frozen, self.killed, self.freezes_at = False, False, ""
        self.hangs: set[str] = set()
        self.failures: dict[str, BaseException] = {}
        self.ended = True
        self.answers = True
        self.arms = True

    def __getattr__(self, name: str) -> Method:
        if name.startswith(("do_", "_")):
            raise AttributeError(name)
        return Method(self, name)

    def pid(self) -> int:
        """As a handle's."""
        return 4711

    def kill(self) -> None:
        """As a handle's."""
        self.killed = True

    def stopped_here(self) -> bool:
        """As a handle's."""
        return self.frozen

    def do_usage(self) -> ProcessUsage:
        return ProcessUsage(0.0, 0, 0)

    def do_close(self) -> None:
        pass

    def do_sign_of_life(self) -> None:
        pass


class FakeServer(Actor):
    """A page server that served `vcpus`."""

    def __init__(self, journal: list[str]) -> None:
        super().__init__("server", journal)
        self.reason = ""
        self.source: dict[str, Any] = {}
        self.vcpus: list[FakeVcpu] = []
        self.abort_works = True
        self.replaced = 0
        self.begun, self.shorter = True, ""
        self.standing: list[dict[str, Any]] = []

    def do_open(self, spec: RunSpec) -> tuple[GuestAddress, dict[str, Any]]:
        return GuestAddress(1, 3, 4, "/socket"), {"filled": spec.memory.pages, "unprepared": 0, "seconds": 0.25}

    def do_serve(self) -> None:
        pass

    def replace(self) -> None:
        """Another one takes its place: what the old one failed at, this one does."""
        self.replaced += 1
        self.failures.clear()

    def do_take_over(self, spec: RunSpec, held: GuestAddress) -> GuestAddress:
        assert held.socket_path == ""
        return GuestAddress(2, 3, 4, "/new")

    def do_look(self) -> dict[str, Any]:
        counts = {"accesses": 1, "faults": 1, "pages_resolved": 1, "running": 1, "finished": 0}
        return {
            "seconds": 0.5 if self.begun else 0,
            **counts,
            "faults_by_kind": {},
            "latency_p99_ns": None,
            "standing": self.standing,
        }

    def do_armed(self, timeout_s: float) -> int:
        return 1

    def do_now(self) -> int:
        return 1000

    def do_round_finished(self, finished: int, timeout_s: float) -> float:
        return 3600.0  # more than any run asks for

    def do_decide_round(self, finished: int, another: bool) -> None:
        assert not another

    def do_release(self, at_ns: int, rounds: int) -> int:
        self.released_at = at_ns
        return 0

    def do_abort(self, reason: str) -> None:
        self.reason = reason
        for vcpu in self.vcpus:
            vcpu.ended = vcpu.ended or self.abort_works

    def do_stop_reason(self) -> str:
        return self.reason

    def do_snapshot_change(self) -> str:
        return self.shorter

    def do_finish(self) -> ServerReport:
        counters = {**COUNTERS, "events": 7, "requests": 5, "delays": 2, "delay_ns": 9000}
        reader = {"role": "reader", "number": 0, "tid": 1, "cpus": [1], "usage": USAGE}
        return ServerReport(counters, [reader | counters], [], self.source)


class FakeVcpu(Actor):
    """A VMM process of one vCPU that resolved `records` pages."""

    def __init__(self, number: int, records: int, journal: list[str]) -> None:
        super().__init__(f"vmm{number}", journal)
        self.number, self.records, self.unprepared, self.pages = number, records, 0, 0
        self.watchdog_fired = False
        self.row: dict[str, Any] = {"wrong_words": 0, "first_wrong": "", "stuck": "", "failure": ""}
        self.found: dict[str, Any] = {"pages": records, "wrong_words": 0, "first_wrong": "", "seconds": 0.0}

    def do_open(self, spec: RunSpec, vmm: int, address: GuestAddress) -> None:
        assert vmm == self.number
        self.pages = spec.memory.pages

    def do_address(self) -> GuestAddress:
        return GuestAddress(9, 3, 4, "")

    def do_stop_reason(self) -> str:
        return "stuck: vCPU 0 made no progress for 1.0 s" if self.watchdog_fired else ""

    def do_hand_over(self, address: GuestAddress) -> int:
        assert address.socket_path == "/new"
        return 1

    def do_calibrate(self, kind: str, memory_type: str, pages: int) -> dict[str, float]:
        return {f"{name}_{unit}": 100.0 for name in ("exit", "slow_gup", "entry") for unit in ("ns", "spread_ns")} | {
            "arrival_ns": 100.0
        }

    def do_prepare(self) -> dict[str, Any]:
        return {
            "hit": 0,
            "minor": self.records,
            "absent": 0,
            "swapped": 0,
            "poisoned": 0,
            "unprepared": self.unprepared,
            "seconds": 0.01,
        }

    def do_run(self) -> None:
        pass

    def do_finish(self) -> VmmReport:
        second = 1_000_000_000
        row = {
            **COUNTERS,
            **self.row,
            "vcpu": self.number,
            "tid": 1,
            "accesses": self.records,
            "faults": self.records,
            "recorded": self.records,
            "pages_resolved": self.records,
            "guest_pages_resolved": self.records,
            "start_ns": second,
            "end_ns": 3 * second,
            "round_start_ns": [second],
            "round_end_ns": [3 * second],
            "round_pages": [0],
            "round_cpu_ns": [1000],
            "cpus": [0],
            "usage": {**USAGE, "user_ns": 1000},
        }
        states = {"resolved": self.records, "unresolved": self.pages - self.records}
        return VmmReport({**COUNTERS, "trips": 4, "requests": 5}, [row], states)

    def do_verify(self) -> dict[str, Any]:
        return self.found

    def do_fault_chunk(self, start: int, count: int) -> tuple[Any, Any, Any]:
        pages = np.arange(start, min(start + count, self.records))
        faults = np.zeros(pages.size, _native.FAULT_DTYPE)
        faults["page"] = pages
        faults["raised_ns"], faults["resumed_ns"] = 1000, 2000
        return np.full(pages.size, self.number, np.uint16), np.zeros(pages.size, np.uint16), faults


class FakeSource(Actor):
    """A source of the session's own."""

    def do_open(self, spec: RunSpec, host: str) -> str:
        return f"{host}:{7000 + spec.source.seed}"


class FakeNode:
    """A host by name that nothing is used on; `busy`: how often another driver has it; `gone`: no agent answers there."""

    def __init__(self, name: str, host: Host, busy: int = 0) -> None:
        self.name, self.host = name, host
        self.id, self.address = f"id of {name}", "10.0.0.1"
        self.busy, self.taken, self.gone = busy, False, False
        self.throttled_s = 0.0
        self.oom_kills: int | None = 0
        self.host_oom_kills, self.limit_reached = 0, 0

    def take(self) -> bool:
        self.busy -= 1
        self.taken = self.busy < 0
        return self.taken

    def give(self) -> None:
        self.taken = False

    def pressure(self) -> Pressure:
        return Pressure(self.throttled_s, self.oom_kills, self.host_oom_kills, {"/g/memory.max": self.limit_reached})

    def state_of(self, pid: int) -> str:
        return "stopped by a signal (SIGSTOP)"

    def look(self) -> Snapshot:
        if self.gone:
            raise ActorDiedError()
        return snapshot()


class FakeHostChanges:
    """A host that changes nothing, and can be made to refuse."""

    def __init__(self) -> None:
        self.kept: list[SwapSpec] = []
        self.refusal: Exception | None = None

    def keep(self, swap: SwapSpec) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.kept.append(swap)


class FakeSession:
    """A session whose actors are fakes: a page server and VMM processes a guest, guests on the nodes in turn."""

    def __init__(self, nodes: list[FakeNode], guests: list[tuple[FakeServer, list[FakeVcpu]]]) -> None:
        self.nodes, self.guests = nodes, guests
        self.own_source = FakeSource("source", guests[0][0].journal)
        self.renewed = 0
        self.host_changes = FakeHostChanges()

    def source(self, seat: Seat) -> tuple[FakeSource, str]:
        return self.own_source, "10.0.0.2"

    def idle_cpu_share(self, answers: Answers) -> float:
        return 0.05

    def nodes_of(self, planned: PlannedRun) -> list[FakeNode]:
        return [self.nodes[guest.host] for guest in planned.guests]

    def seats(self, planned: PlannedRun) -> list[Seat]:
        actors = zip(planned.guests, self.guests, strict=True)
        seats = [Seat(one.number, one.spec, self.nodes[one.host], server, list(vcpus)) for one, (server, vcpus) in actors]
        for seat in seats:
            for actor in (seat.server, *seat.vcpus):
                actor.node = seat.node
        return seats

    def begin_run(self, waited_s: float) -> float:
        return waited_s

    def end_run(self) -> float:
        return 10.0

    def idle_actors(self, seats: list[Seat]) -> int:
        return 0

    def renew(self) -> None:
        self.renewed += 1
