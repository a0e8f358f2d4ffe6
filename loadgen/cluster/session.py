"""The actors of a session's guests, started once and used again from run to run of a sweep."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from loadgen.cluster.actors import Handle, actor_class
from loadgen.cluster.answers import Answers, asked
from loadgen.cluster.cluster import Cluster
from loadgen.cluster.heartbeat import Heartbeat
from loadgen.cluster.nodes import Node
from loadgen.host.changes import HostChanges
from loadgen.host.interference import cpu_share
from loadgen.plan.plan import PlannedGuest, PlannedRun
from workers.page_server import PageServer
from workers.source import Source
from workers.spec import RunSpec
from workers.vcpu import Vcpu

FEWEST_ACTORS = 2
"""Of a guest: its page server and a VMM process."""
START_TIMEOUT_S = 60.0
PLACED_POLL_S = 1.0
QUIET_S = 0.1
QUIET_LOOKS = 2
RESERVED = {"memory": 1 << 20}
"""What a guest's placement group asks of its node: Ray requires a resource, and its CPUs may belong to the job of this driver."""


@dataclass(frozen=True)
class Seat:
    """A guest of one run, its actors, and the host they are on."""

    number: int
    spec: RunSpec
    node: Node
    server: Any
    vcpus: list[Any]

    @property
    def first_vcpu(self) -> int:
        """Number in the run of the guest's first vCPU."""
        return self.number * self.spec.vcpus

    @property
    def first_vmm(self) -> int:
        """Number in the run of the guest's first VMM process."""
        return self.number * self.spec.vmms

    def fed_from(self, address: str) -> Seat:
        """The same, with the remote source at `address`."""
        source = dataclasses.replace(self.spec.source, address=address)
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, source=source))


class GuestActors:
    """The actors of one guest, all on one node: their placement group is packed strictly, and pinned to it."""

    def __init__(self, number: int, node: Node, deadman_s: float) -> None:
        self.number, self.node = number, node
        self._deadman_s = deadman_s
        self.server: Handle | None = None
        self.source: Handle | None = None
        self.vcpus: list[Handle] = []
        self._group: Any = None

    def ready(self, vmms: int) -> None:
        """The page server and `vmms` VMM processes; those that are not there yet are started."""
        if self._group is None:
            pin = [{"ray.io/node-id": self.node.id}]
            self._group = placement_group([RESERVED], strategy="STRICT_PACK", bundle_label_selector=pin)
            self._wait_until_placed()
        beside = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=0)
        if self.server is None:
            page_server = actor_class(PageServer).options(max_concurrency=4, scheduling_strategy=beside)
            self.server = Handle("the page server", self.node, lambda: page_server.remote(self._deadman_s))
        vcpu = actor_class(Vcpu).options(scheduling_strategy=beside)
        for number in range(len(self.vcpus), vmms):
            self.vcpus.append(Handle(f"VMM process {number}", self.node, lambda: vcpu.remote(self._deadman_s)))

    def source_on(self, there: Node) -> Handle:
        """The guest's source, started on node `there` when first asked for."""
        if self.source is None:
            source = actor_class(Source).options(label_selector={"ray.io/node-id": there.id})
            self.source = Handle("the source", there, lambda: source.remote(self._deadman_s))
        return self.source

    def name_with_place(self) -> None:
        """Name the actors with their guest and node: there are several."""
        place = f" of guest {self.number} on {self.node.name}"
        for actor in self.actors:
            actor.name = actor.name.removesuffix(place) + place

    def _wait_until_placed(self) -> None:
        """Raises GuestNotPlaced: Ray itself would wait for a node that is gone as for one that has no room yet."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._group.wait(PLACED_POLL_S):
            if self.node.gone():
                raise GuestNotPlaced(f"node {self.node.name} is gone: no actor of a guest can be started on it")
            if time.monotonic() > deadline:
                raise GuestNotPlaced(f"node {self.node.name} has no room for a guest's actors")

    @property
    def actors(self) -> list[Handle]:
        """Those that were started."""
        return [actor for actor in (self.server, self.source, *self.vcpus) if actor is not None]

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            actor.kill()
        if self._group is not None:
            with contextlib.suppress(Exception):
                remove_placement_group(self._group)


class GuestNotPlaced(ray.exceptions.RayError):
    """Ray did not place a guest's actors in time."""


class Session:
    """The actors of as many guests as runs have asked for so far, on a cluster. `close` ends all of it, the cluster too.

    `actors`: how many the first run needs.
    """

    def __init__(self, cluster: Cluster, deadman_s: float = 0.0, *, actors: int = FEWEST_ACTORS) -> None:
        self.cluster = cluster
        self._deadman_s = deadman_s
        self._heartbeat = Heartbeat(deadman_s, lambda: [actor for guest in list(self._guests) for actor in guest.actors])
        self._guests: list[GuestActors] = []
        self._idle_cpu_share: dict[int, float] = {}
        self._ended: float | None = None
        self.host_changes = HostChanges()
        atexit.register(self.close)
        try:
            cluster.start(actors)
        except BaseException:
            self.close()
            raise

    def nodes_of(self, planned: PlannedRun) -> list[Node]:
        """The host of each of the run's guests."""
        return [self.cluster.nodes[guest.host] for guest in planned.guests]

    def seats(self, planned: PlannedRun) -> list[Seat]:
        """The run's guests with their actors; those that are not there yet are started. Raises RayError."""
        seats = [self._seat(*one) for one in zip(planned.guests, self.nodes_of(planned), strict=True)]
        if len(self._guests) > 1 or len(self.cluster.nodes) > 1:
            for guest in self._guests:
                guest.name_with_place()
        return seats

    def _seat(self, guest: PlannedGuest, node: Node) -> Seat:
        while len(self._guests) <= guest.number:
            self._guests.append(GuestActors(len(self._guests), node, self._deadman_s))
        actors = self._guests[guest.number]
        actors.ready(guest.spec.vmms)
        return Seat(guest.number, guest.spec, node, actors.server, actors.vcpus[: guest.spec.vmms])

    def source(self, seat: Seat) -> tuple[Any, str]:
        """The actor that holds a guest's memory when `source=remote` has no address, on another host than the guest where there
        is one, and the address it listens on; started when first asked for."""
        nodes = list(self.cluster.nodes)
        there = nodes[(nodes.index(seat.node) + 1) % len(nodes)]
        return self._guests[seat.number].source_on(there), there.address

    def begin_run(self, waited_s: float) -> float:
        """When the run's time begins (perf_counter): where the last one's ended, so that nothing between them is lost but the
        wait for its hosts."""
        return time.perf_counter() if self._ended is None else self._ended + waited_s

    def end_run(self) -> float:
        """The run's time ends now (perf_counter)."""
        self._ended = time.perf_counter()
        return self._ended

    def idle_actors(self, seats: list[Seat]) -> int:
        """VMM process actors alive that a run of these guests has no use for."""
        return max(0, sum(len(actors.vcpus) for actors in self._guests) - sum(len(seat.vcpus) for seat in seats))

    def idle_cpu_share(self, answers: Answers) -> float:
        """CPUs that Ray and the idle actors (and a driver on their host) use, on the busiest host; measured once for each
        number of actors, in the quieter of QUIET_LOOKS times QUIET_S: an actor that has just started is not idle yet. Raises
        Loss."""
        actors = [one for guest in self._guests for one in (guest.server, *guest.vcpus)]
        if len(actors) not in self._idle_cpu_share:
            answers.get("start", asked(actors, "__ray_ready__"))
            nodes = list({guest.node.name: guest.node for guest in self._guests}.values())
            self._idle_cpu_share[len(actors)] = min(_quiet_share(nodes) for _ in range(QUIET_LOOKS))
        return self._idle_cpu_share[len(actors)]

    def renew(self) -> None:
        """End every actor: after a run that lost one or left one busy. The next run gets new ones, on hosts that are there."""
        for actors in self._guests:
            actors.close()
        self._guests = []
        self.cluster.refresh()

    def close(self) -> None:
        """End the actors, and Ray when it is ours; what was changed of the host is as before. Idempotent."""
        self._heartbeat.stop()
        for actors in self._guests:
            actors.close()
        self._guests = []
        self.cluster.close()
        self.host_changes.close()
        atexit.unregister(self.close)


def _quiet_share(nodes: list[Node]) -> float:
    before = [node.look() for node in nodes]
    time.sleep(QUIET_S)
    after = [node.look() for node in nodes]
    return max(cpu_share(*looks) for looks in zip(before, after, strict=True))
