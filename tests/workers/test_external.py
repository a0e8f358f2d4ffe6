"""vCPUs against a fault handler that is not ours: the C program of tests/peers, by the published handshake."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs, specs
from tests.external import GUESTS, PAGES, SHMEM, against, asked, external
from tests.peers.build import peer
from workers.external.handler import Handler, HandlerError
from workers.external.printed import first_line, last_lines
from workers.external.processes import family, is_socket, listens_at, state_of
from workers.page_server import PageServer
from workers.snapshot import Snapshots
from workers.spec import RunSpec


@pytest.fixture(scope="module", autouse=True)
def _snapshots_removed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Snapshots lie in the temporary folder of the process until it ends: here one that ends with the file."""
    tmp_path_factory.getbasetemp()  # before, or pytest's own folder would lie in it
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="") as folder:
        tempfile.tempdir = folder
        yield
        tempfile.tempdir = before


SHORT = dataclasses.replace(SHMEM, watchdog_s=1.0)


def left_over() -> list[int]:
    """Handlers that this process has started and that are still there."""
    program = peer("handler").encode()
    return [pid for pid in family(os.getpid()) if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] == program]


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize("regions", [1, 3])
@pytest.mark.parametrize("memory", ["shmem", "anon", "hugetlb"])
def test_every_page_of_a_foreign_handler_is_right(memory: str, regions: int) -> None:
    spec = GUESTS[memory]
    spec = dataclasses.replace(spec, memory=dataclasses.replace(spec.memory, regions=regions))
    ran = against(spec)
    assert (ran.stop_reason, ran.wrong_words, ran.broken) == ("", 0, [])
    assert ran.verified == ran.pages_resolved == spec.memory.pages
    assert ran.outcomes == {"external": spec.memory.pages}
    assert ran.seen["brought_untouched"] == 0
    assert ran.version == "test handler 1.0"
    assert sum(row["user_ns"] + row["system_ns"] for row in ran.seen["threads"]) > 0
    assert left_over() == []


@pytest.mark.parametrize("form", ["current", "old", "both"])
def test_a_handler_understands_each_form_of_the_message(form: str) -> None:
    assert against(SHMEM, message=form).verified == PAGES


@pytest.mark.parametrize("order", ["sequential", "strided", "zipf", "uniform"])
def test_every_order_of_accesses_and_overlapping_vcpus_are_served(order: str) -> None:
    access = specs.access(order=order, overlap=True, read_share=0.5, stride_pages=7)
    ran = against(dataclasses.replace(SHMEM, access=access))
    assert (ran.stop_reason, ran.wrong_words, ran.broken) == ("", 0, [])
    assert ran.verified == ran.pages_resolved


@needs.KVM
def test_kvm_vcpus_are_served_over_regions_with_gaps() -> None:
    spec = dataclasses.replace(SHMEM, engine="kvm", memory=dataclasses.replace(SHMEM.memory, regions=3))
    ran = against(spec)
    assert (ran.stop_reason, ran.wrong_words, ran.verified, ran.pages_resolved) == ("", 0, PAGES, PAGES)


def test_pages_brought_ahead_are_counted_apart_from_pages_on_demand_and_from_pages_never_touched() -> None:
    half = specs.access(order="sequential", accesses=PAGES // 4)  # of each of the two vCPUs
    demanded = against(dataclasses.replace(SHMEM, access=half))
    ahead = against(dataclasses.replace(SHMEM, access=dataclasses.replace(half, think_ns=50_000)), "--prefetch")
    assert demanded.seen["brought_untouched"] == 0
    assert demanded.pages_resolved == ahead.pages_resolved == PAGES // 2
    assert ahead.seen["brought_untouched"] > 0
    assert ahead.verified == ahead.pages_resolved + ahead.seen["brought_untouched"]  # those are verified, too
    assert ahead.faults < demanded.faults
    assert demanded.faults >= PAGES // 2


def balloon(spec: RunSpec, method: str, rate_per_s: float = 2000) -> RunSpec:
    drops = dataclasses.replace(spec.disturb.balloon, rate_per_s=rate_per_s, method=method)
    disturb = dataclasses.replace(spec.disturb, balloon=drops)
    passes = 6 * PAGES // spec.memory.pages
    return dataclasses.replace(spec, disturb=disturb, access=specs.access(overlap=True, passes=passes, think_ns=20_000))


def with_devices(spec: RunSpec) -> RunSpec:
    devices = dataclasses.replace(spec.disturb.devices, threads=2, rate_per_s=4000)
    return dataclasses.replace(spec, disturb=dataclasses.replace(spec.disturb, devices=devices))


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize(("memory", "method"), [("anon", "dontneed"), ("shmem", "remove"), ("hugetlb", "dontneed")])
@pytest.mark.parametrize("options", ["", "--prefetch"])
def test_what_a_balloon_dropped_reads_as_zeros(memory: str, method: str, options: str) -> None:
    ran = against(balloon(GUESTS[memory], method), options)
    assert (ran.stop_reason, ran.wrong_words, ran.first_wrong) == ("", 0, "")
    assert ran.dropped > 0
    assert ran.pages_resolved == GUESTS[memory].memory.pages  # each once, however often it was dropped


@needs.KVM
def test_a_kvm_vcpu_finds_zeros_in_what_a_balloon_dropped_and_contents_before() -> None:
    spec = balloon(GUESTS["anon"], "dontneed", rate_per_s=20_000)
    access = dataclasses.replace(spec.access, passes=2, think_ns=0)
    ran = against(dataclasses.replace(spec, engine="kvm", access=access))
    assert (ran.stop_reason, ran.wrong_words, ran.first_wrong) == ("", 0, "")
    assert ran.dropped > 0


def test_devices_are_served_in_the_kernel() -> None:
    ran = against(with_devices(SHMEM))
    assert (ran.stop_reason, ran.wrong_words) == ("", 0)


@pytest.mark.parametrize(("memory", "method"), [("anon", "dontneed"), ("shmem", "remove")])
def test_devices_beside_a_balloon_find_and_leave_zeros_in_what_it_dropped(memory: str, method: str) -> None:
    ran = against(with_devices(balloon(GUESTS[memory], method)))
    assert (ran.stop_reason, ran.wrong_words, ran.first_wrong) == ("", 0, "")
    assert ran.dropped > 0


def test_a_device_finds_contents_in_a_page_that_a_balloon_dropped_and_no_vcpu_touched_again() -> None:
    spec = with_devices(balloon(GUESTS["anon"], "dontneed"))
    ran = against(dataclasses.replace(spec, access=specs.access(hold_ns=500_000_000)), "--fault forgets-removes")
    assert re.search("^device: page .*; the balloon had dropped the page, so it must read as zeros", ran.first_wrong)


def test_several_vmm_processes_are_served_by_a_handler_that_serves_many() -> None:
    ran = against(dataclasses.replace(SHMEM, vcpus_per_vmm=1, access=specs.access(overlap=True)), "--serves-many", vmms=2)
    assert (ran.stop_reason, ran.wrong_words, ran.verified) == ("", 0, 2 * PAGES)


STUCK = r"vCPU \d made no progress for \d\.\d s: page \d+ is unresolved, stage: raised \(touched, not yet delivered\)"


@pytest.mark.parametrize(
    ("fault", "reason", "state"),
    [
        ("exits=3", r"^the handler ended with exit status 3 while it served; its stderr: handler: the disk of the snapshot", ""),
        ("signal=11", r"^the handler was killed by SIGSEGV while it served", ""),
        ("restarts", r"^the handler \(pid \d+\) ended while it served: .* started again; its stderr: handler: died", ""),
        ("freezes", STUCK, r"is stopped by a signal \(SIGSTOP\)"),
        ("skips", STUCK, r"runs, it holds the userfaultfd and left the fault unanswered"),
        ("wakes-only", STUCK, r"runs, it holds the userfaultfd and left the fault unanswered"),
        ("child-dies", r"\(pid \d+\) does not serve any longer: 1 of its 2 processes ended and holds no userfaultfd", ""),
        ("child-dies=1", STUCK, r"runs, 1 of its 2 processes ended, it holds the userfaultfd and left the fault unanswered"),
        ("closes", STUCK, r"runs, it has closed its userfaultfd .* silently become zero pages"),
        ("asks-to-map", r"sent a message to the VMM \('\{\"map\".* not supported, only UFFDIO_COPY and UFFDIO_ZEROPAGE", ""),
    ],
)
def test_a_handler_that_breaks_ends_the_run_by_name(fault: str, reason: str, state: str) -> None:
    ran = against(SHORT, f"--fault {fault}")
    assert re.search(reason, ran.stop_reason), ran.stop_reason
    assert re.search(state, ran.seen["state"]), ran.seen["state"]
    assert ran.wrong_words == 0  # pages that were not served are not checked
    assert left_over() == []


def test_a_handler_that_refuses_is_named_whether_it_closes_before_or_after_the_message_is_sent() -> None:
    try:
        said = against(SHORT, "--fault refuses").stop_reason
    except HandlerError as error:
        said = str(error)
    assert re.search(
        r"^the handler (\(pid \d+\) )?refused the VMM( at |: it closed the connection and holds no userfaultfd)", said
    )


@pytest.mark.usefixtures("huge_pages")
def test_half_a_huge_page_is_no_answer() -> None:
    ran = against(dataclasses.replace(GUESTS["hugetlb"], watchdog_s=1.0), "--after 2 --fault half-page")
    assert re.search(STUCK, ran.stop_reason), ran.stop_reason
    assert "left the fault unanswered" in ran.seen["state"]


@pytest.mark.parametrize("fault", ["wrong-byte", "next-page", "zero-page", "zeropage", "unregisters"])
def test_wrong_contents_are_named_by_page_and_word(fault: str) -> None:
    ran = against(SHORT, f"--fault {fault}")
    assert ran.wrong_words > 0
    zeros = "" if fault in ("wrong-byte", "next-page") else r"; zeros: the handler served a zero page, or ended the registration"
    assert re.search(rf"^page \d+, word \d+: found 0x[0-9a-f]{{16}}, expected 0x[0-9a-f]{{16}}{zeros}", ran.first_wrong)


def test_a_page_that_a_handler_poisons_is_no_page() -> None:
    ran = against(SHORT, "--fault poisons")
    assert (ran.stop_reason, ran.wrong_words > 0) == ("", True)
    assert re.search(r"^page \d+: reading it raised SIGBUS; the handler poisoned it \(UFFDIO_POISON\)$", ran.first_wrong)


def test_a_handler_that_forgets_what_a_balloon_dropped_is_found() -> None:
    ran = against(dataclasses.replace(balloon(GUESTS["anon"], "dontneed"), watchdog_s=1.0), "--fault forgets-removes")
    assert "; the balloon had dropped the page, so it must read as zeros" in ran.first_wrong
    assert ran.wrong_words > ran.wrong_at_end, "an access finds it"


def test_a_dropped_page_that_a_handler_brings_back_and_nothing_touches_is_found_at_the_end() -> None:
    once = dataclasses.replace(balloon(GUESTS["anon"], "dontneed"), access=specs.access(think_ns=200_000))
    ran = against(once, "--fault restores-removes")
    assert ran.wrong_at_end > 0
    assert "; the balloon had dropped the page, so it must read as zeros" in ran.first_wrong


def test_a_handler_that_takes_eagain_for_an_answer_leaves_a_vcpu_asleep() -> None:
    spec = balloon(GUESTS["anon"], "dontneed", rate_per_s=200_000)
    ran = against(dataclasses.replace(spec, watchdog_s=1.0), "--fault ignores-eagain")
    assert re.search(STUCK.replace("unresolved", "(unresolved|discarded)"), ran.stop_reason)
    assert "left the fault unanswered" in ran.seen["state"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("{handler} {{socket}} {{snapshot}} --fault never-listens", r"did not listen at \{socket\} within 1 s: .*handler"),
        (
            "{handler} {{socket}} {{snapshot}} --fault exits-at-once=5",
            r"the handler ended with exit status 5 before it listened at \{socket\}: .*; its stderr: handler: bad magic",
        ),
        (
            "{handler} {{socket}} {{snapshot}} --fault daemon",
            r"the handler ended with exit status 0 before it listened at \{socket\}: .*: it has to stay in the foreground",
        ),
        ("/no/such/handler {{socket}}", r"page_server.command cannot be started: /no/such/handler: No such file"),
        ("/etc/passwd {{socket}}", r"page_server.command cannot be started: /etc/passwd: Permission denied"),
    ],
)
def test_a_handler_that_does_not_start_is_named(command: str, said: str, tmp_path: Path) -> None:
    server = specs.page_server(handshake_timeout_s=1.0, external=asked(command=command.format(handler=peer("handler"))))
    with pytest.raises(HandlerError, match=said):
        PageServer().open(dataclasses.replace(SHMEM, page_server=server))
    assert left_over() == []


def test_a_program_beside_this_interpreter_is_found_where_its_environment_is_not_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "snapshot").write_bytes(bytes(4096))
    command = "loadgen-serve --socket {socket} --snapshot {snapshot} --quiet"
    handler = Handler(asked(command=command), str(tmp_path / "snapshot"), "a-run", 30.0)
    try:
        assert listens_at(handler.path)
    finally:
        handler.close()


def test_a_version_without_an_end_of_its_line_loses_its_control_characters() -> None:
    ran = against(SHORT, "--fault prints=2")
    assert (ran.stop_reason, ran.version) == ("", "test0;title  handler 1.0 \N{REPLACEMENT CHARACTER}")


def test_of_megabytes_of_stderr_the_last_lines_are_shown(tmp_path: Path) -> None:
    printed = tmp_path / "stderr"
    printed.write_bytes(b"x" * (4 << 20) + b"\n\nfirst\n\x1b[1msecond\n \n" + b"\xff" * 2 + b"\x00third\r\n")
    assert last_lines(printed) == "first | second | \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} third"
    printed.write_bytes(b"y" * 5000)
    assert last_lines(printed) == "y" * 300
    assert (first_line(tmp_path / "none"), last_lines(tmp_path / "none")) == ("", "")


@pytest.mark.parametrize("bound", ["whole path", "name in its own folder"])
def test_a_socket_that_a_handler_has_bound_is_seen_whichever_way_it_names_it(bound: str, tmp_path: Path) -> None:
    path = tmp_path / "handler.sock"
    name = str(path) if bound == "whole path" else path.name
    steps = (f"s.bind({name!r})", "print(flush=True)", "input()", "s.listen()", "print(flush=True)", "input()")
    code = f"import socket; s = socket.socket(socket.AF_UNIX); {'; '.join(steps)}"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        assert is_socket(str(path)) and not listens_at(str(path))
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        assert listens_at(str(path)) and not listens_at(str(tmp_path / "another.sock"))


def test_a_file_that_is_no_socket_and_a_socket_that_nothing_listens_at_are_named(tmp_path: Path) -> None:
    path = tmp_path / "handler.sock"
    path.touch()
    source = specs.source(name="file", seed=3, file=Snapshots().path_for(SHMEM))
    server = specs.page_server(handshake_timeout_s=0.1, external=asked(socket=str(path)))
    with pytest.raises(
        HandlerError, match=f"nothing listened at page_server.socket={path} within 0.1 s: a file that is no socket"
    ):
        against(dataclasses.replace(SHMEM, source=source, page_server=server))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(HandlerError, match=f"the handler cannot be reached at {path}: Connection refused"):
        against(dataclasses.replace(SHMEM, source=source, page_server=server))


def test_a_handler_that_runs_already_is_found_at_its_socket_and_left_running(tmp_path: Path) -> None:
    path, spec = str(tmp_path / "handler.sock"), dataclasses.replace(SHMEM, source=specs.source(seed=3))
    snapshot = Snapshots().path_for(spec)
    found = dataclasses.replace(spec, source=specs.source(name="file", seed=3, file=snapshot))
    server = specs.page_server(handshake_timeout_s=5.0, external=asked(socket=path))
    with pytest.raises(HandlerError, match=f"nothing listened at page_server.socket={path} within 1 s"):
        PageServer().open(dataclasses.replace(found, page_server=dataclasses.replace(server, handshake_timeout_s=1.0)))
    with subprocess.Popen([peer("handler"), path, snapshot], stdout=subprocess.DEVNULL) as running:
        try:
            ran = against(dataclasses.replace(found, page_server=server))
            assert (ran.stop_reason, ran.verified) == ("", PAGES)
            assert running.poll() is None
        finally:
            running.kill()


def test_guests_of_a_host_share_a_handler_and_the_first_to_come_ends_it() -> None:
    shared = external("--serves-many", shared=True).external
    assert shared is not None
    snapshot = Snapshots().path_for(SHMEM)
    first, second = (Handler(shared, snapshot, "shared-run", 5.0) for _ in range(2))
    assert first.path == second.path and first.version == second.version == "test handler 1.0"
    assert len(left_over()) == 1
    second.close()
    assert listens_at(first.path)
    first.close()
    assert left_over() == [] and not Path(first.path).parent.exists()


def test_a_handler_deaf_to_sigterm_is_killed() -> None:
    deaf = asked(command=f"sh -c 'trap \"\" TERM; {peer('handler')} {{socket}} {{snapshot}}; true'")
    handler = Handler(deaf, Snapshots().path_for(SHMEM), "run", 5.0)
    [pid] = left_over()
    handler.close()
    deadline = time.monotonic() + 5
    while state_of(pid) != "has ended":
        assert time.monotonic() < deadline
        time.sleep(0.01)
