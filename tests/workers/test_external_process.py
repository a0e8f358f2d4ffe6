"""The process of a fault handler that is not ours: started, found, waited for, ended, and what it prints."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import specs
from tests.external import PAGES, SHMEM, SHORT, against, asked, external, left_over
from tests.peers.build import peer
from workers.external.handler import Handler, HandlerError
from workers.external.printed import first_line, last_lines
from workers.external.processes import is_socket, listens_at, state_of
from workers.page_server import PageServer
from workers.snapshot import Snapshots

pytestmark = pytest.mark.usefixtures("snapshots_removed")


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
