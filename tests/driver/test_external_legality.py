"""What page_server=external refuses before anything starts, each with the reason and what to do."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from loadgen import app
from loadgen.config.validate import validate, validate_cells
from loadgen.errors import ConfigError
from loadgen.host.probe import Host
from loadgen.plan.guests_over_hosts import plan_guests
from loadgen.plan.plan import plan_run

Configure = Callable[..., DictConfig]
COMMAND = "page_server.command='handler {socket} {snapshot}'"
LEGAL = ("page_server=external", COMMAND, "fault_mix=absent", "memory.region_mib=4")
BALLOON = "disturb=balloon"


@pytest.fixture(autouse=True)
def _handler(programs: Callable[..., None]) -> None:
    programs("handler", "a", "b")


@pytest.fixture
def host(host: Host) -> Host:
    return dataclasses.replace(host, huge_pages_free=64)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("memory=anon", "memory.regions=3", "vcpus=4", "vcpus_per_vmm=4"),
        ("memory=hugetlb", "page_server.message=old"),
        ("vcpus=4", "page_server.vmms=4"),
        ("guests=2", "page_server.shared=true"),
        ("memory=anon", BALLOON),
        (BALLOON, "disturb.balloon.method=remove"),
        (BALLOON, "memory=hugetlb"),
        ("disturb=[balloon,devices]", "memory=anon"),
        ("disturb=devices", "access=zipf", "access.overlap=true"),
    ],
)
def test_what_a_foreign_vmm_can_do_is_allowed(configure: Configure, host: Host, overrides: tuple[str, ...]) -> None:
    validate(configure(*LEGAL, *overrides), host)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            ("strategy=no_uffd_wait",),
            "strategy no_uffd_wait cannot be resolved from outside: an external handler answers vCPUs that",
        ),
        (("strategy=null",), "strategy null cannot be resolved from outside"),
        (("strategy.fault_around_pages=4",), "the handler decides how many pages it brings with a fault"),
        (
            ("fault_mix=minor",),
            "the handler is asked for missing pages only, and fault_mix has minor pages: use fault_mix=absent",
        ),
        (("prefetch=order",), "prefetch=order is our page server's, and a handler has its own: use prefetch=none"),
        (("recover=true",), "recover=true replaces our page server"),
        (("vcpus=4",), "the guest has 4 VMM processes and the handler serves page_server.vmms=1: use vcpus_per_vmm=4"),
        (("uffds_per_vmm=2",), "a VMM sends one userfaultfd for all its regions: use uffds_per_vmm=1"),
        (("memory.transparent_huge_pages=true",), "maps guest memory without transparent huge pages: leave them out"),
        (("memory=hugetlb", "memory.regions=3"), "memory.regions=3 are more than the 2 pages of the region: use fewer"),
        (("source=remote",), "serves pages of a snapshot file: use source=local"),
        (("page_server.command=handler",), "page_server.command has no {socket}"),
        (("page_server.command='handler {socket}'",), "page_server.command has no {snapshot}"),
        (('page_server.command="\'{socket}"',), "is no command line: no closing quotation"),
        (
            ("page_server.command='no_such_handler {socket} {snapshot}'",),
            "no_such_handler is not there, or may not be executed: write the handler's path, or put its folder into PATH",
        ),
        (("page_server.command='/etc/passwd {socket} {snapshot}'",), "/etc/passwd is not there, or may not be executed"),
        (("page_server.command=' '",), "page_server.command has no {socket}"),
        (("page_server.command=''",), "needs either page_server.command='handler {socket} {snapshot}'"),
        (("page_server.socket=/run/handler.sock",), "needs either page_server.command"),
        (
            ("page_server.command=''", "page_server.socket=/run/handler.sock"),
            "use source=file source.file=PATH with the same file, and source.contents=file unless it holds contents of seed",
        ),
        (("page_server.command=''", f"page_server.socket=/run/{'long' * 30}"), "page_server.socket is longer than 107 bytes"),
        ((BALLOON,), "of shmem memory that is so after disturb.balloon.method=remove only"),
        ((BALLOON, "memory=anon", "disturb.balloon.track_removes=false"), "registers UFFD_FEATURE_EVENT_REMOVE"),
        ((BALLOON, "memory=hugetlb", "disturb.balloon.method=remove"), "after disturb.balloon.method=dontneed only"),
        ((BALLOON, "memory=anon", "verify=page"), "use verify=word, which checks every page in full at the end"),
        (("disturb=devices_second",), "use disturb.devices.device_mapping=same"),
    ],
)
def test_what_it_cannot_do_is_refused_with_the_reason(
    configure: Configure, host: Host, overrides: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        validate(configure(*LEGAL, *overrides), host)
    assert any(reason in problem for problem in refused.value.problems), refused.value.problems


def test_a_run_has_one_round_no_reader_and_each_guest_its_own_contents(configure: Configure, host: Host) -> None:
    spec = plan_run(configure(*LEGAL), host).spec
    assert spec.one_round == "page_server=external: a handler serves a guest once"
    assert spec.placement.reader_cpus == ()
    assert spec.page_server.external is not None and spec.page_server.external.command == "handler {socket} {snapshot}"
    own, shared = (
        {guest.spec.source.seed for guest in plan_guests(configure(*LEGAL, "guests=3", more), [host]).guests}
        for more in ("page_server.shared=false", "page_server.shared=true")
    )
    assert (len(own), len(shared)) == (3, 1)


@pytest.mark.parametrize(
    ("asked", "runs"),
    [
        ((), "4 runs"),  # loadgen-serve, ours with and without prefetch, file_map
        (("page_server.command='a {socket} {snapshot}','b {socket} {snapshot}'",), "6 runs"),
        (("page_server.command=", "page_server.socket=/run/handler.sock", "source.file=guest.mem"), "5 runs"),
    ],
)
def test_handlers_are_compared_with_our_page_server_by_the_same_handshake(
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    asked: tuple[str, ...],
    runs: str,
) -> None:
    monkeypatch.setattr("loadgen.sweep.plan_runs.probe", lambda: host)
    monkeypatch.chdir(tmp_path)
    with open("guest.mem", "wb") as snapshot:
        snapshot.truncate(32 << 20)
    words = ["loadgen", "experiment=handler", "vcpus=1", "access=sequential", "repeats=1", "dry_run=true", *asked]
    monkeypatch.setattr(sys, "argv", words)
    app.main()
    printed = capfd.readouterr().out
    assert f"{runs}, about" in printed
    assert printed.count("loadgen-serve") == 1


def test_keys_of_our_page_server_and_of_a_handler_exclude_each_other(configure: Configure, host: Host, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"page_server\.delay_us=5.0 is read only with page_server=poll, epoll or spin"):
        validate_cells([configure(*LEGAL, "page_server.delay_us=5")])
    with pytest.raises(ConfigError, match=r"memory\.regions=2 is read only with page_server=external"):
        validate_cells([configure("memory.regions=2")])
