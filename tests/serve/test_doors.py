"""Both doors at once: our vCPUs as the VMM of `loadgen-serve`, by the published handshake."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from tests import needs, specs
from tests.external import GUESTS, against, asked
from tests.serve.serving import Serving, serving
from workers import _native
from workers.spec import RunSpec


def disturbed(spec: RunSpec, method: str) -> RunSpec:
    """With a balloon and devices, while every vCPU touches every page again and again."""
    disturb = spec.disturb
    balloon = dataclasses.replace(disturb.balloon, rate_per_s=5000, method=method, track_removes=True)
    devices = dataclasses.replace(disturb.devices, threads=1, rate_per_s=2000)
    passes = 2048 // spec.memory.pages
    return dataclasses.replace(
        spec,
        disturb=dataclasses.replace(disturb, balloon=balloon, devices=devices),
        access=specs.access(overlap=True, passes=passes, think_ns=20_000),
    )


def apart(spec: RunSpec, regions: int) -> RunSpec:
    return dataclasses.replace(spec, memory=dataclasses.replace(spec.memory, regions=regions))


@pytest.fixture(scope="module", params=["small", "huge"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One for all VMMs; its snapshot has the contents of a guest of small pages, or of huge ones."""
    folder = tmp_path_factory.mktemp("serve")
    memory = GUESTS["anon" if request.param == "small" else "hugetlb"].memory
    _native.write_snapshot(str(folder / "guest.mem"), memory.region_bytes, memory.page_bytes, 3)
    with serving(folder, folder / "guest.mem", "--readers", "2") as started:
        yield started


def kinds(server: Serving) -> tuple[str, ...]:
    """Memory types of guests with this snapshot."""
    size = server.snapshot.stat().st_size
    return tuple(kind for kind, spec in GUESTS.items() if spec.memory.region_bytes == size)


def ran(server: Serving, spec: RunSpec) -> None:
    """Every page was served, and every word of it is right; the server has seen it go, and no more."""
    source = specs.source(name="file", file=str(server.snapshot), seed=3)
    page_server = specs.page_server(handshake_timeout_s=5.0, external=asked(socket=str(server.socket)))
    came = against(dataclasses.replace(spec, source=source, page_server=page_server))
    assert (came.stop_reason, came.wrong_words, came.first_wrong, came.broken) == ("", 0, "", [])
    assert came.pages_resolved == spec.memory.pages
    ended = server.until("vmm_ended")
    assert (ended["status"], ended["removes"]) == ("ok", came.dropped)


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize("engine", needs.ENGINES)
def test_our_vcpus_are_served_over_regions_with_gaps(server: Serving, engine: str) -> None:
    for kind in kinds(server):
        ran(server, dataclasses.replace(apart(GUESTS[kind], 3), engine=engine))


@pytest.mark.usefixtures("huge_pages")
def test_what_our_balloon_drops_is_zeros_for_vcpus_and_devices(server: Serving) -> None:
    for kind in kinds(server):
        ran(server, disturbed(GUESTS[kind], "remove" if kind == "shmem" else "dontneed"))


def test_a_guest_that_is_not_the_snapshot_is_refused_by_name(server: Serving) -> None:
    other = GUESTS["hugetlb" if "anon" in kinds(server) else "anon"].memory
    memory = dataclasses.replace(other, type="anon", page_bytes=4096)
    spec = dataclasses.replace(GUESTS["anon"], memory=memory, watchdog_s=1.0)
    page_server = specs.page_server(handshake_timeout_s=5.0, external=asked(socket=str(server.socket)))
    came = against(dataclasses.replace(spec, page_server=page_server))
    assert "refused the VMM: it closed the connection and holds no userfaultfd" in came.stop_reason
    reason = server.until("refused")["reason"]
    assert str(memory.region_bytes) in reason and "and the snapshot" in reason
