"""One run at a time on a host."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.cluster.host_lock import alone_on
from loadgen.host.probe import Host
from tests.driver.fakes import FakeNode
from workers.host_lock import HostLock


def test_a_wait_for_a_host_is_announced_once_and_measured(host: Host) -> None:
    said: list[str] = []
    node = FakeNode("there", host, busy=2)
    with alone_on([node], said.append) as waited_s:  # type: ignore[list-item]
        assert node.taken
    assert not node.taken
    assert waited_s > 0
    assert said == ["waiting for there: another run measures there (cluster.exclusive=false runs beside it)"]


def test_a_free_host_is_not_waited_for(host: Host) -> None:
    with alone_on([FakeNode("there", host)], pytest.fail) as waited_s:  # type: ignore[list-item, arg-type]
        assert waited_s == 0.0


def test_nodes_of_one_machine_are_taken_once_and_machines_in_one_order(host: Host) -> None:
    one, two = (dataclasses.replace(host, boot_id=boot) for boot in ("a", "b"))
    nodes = [FakeNode("x", two), FakeNode("y", one), FakeNode("z", one)]
    with alone_on(nodes, pytest.fail):  # type: ignore[arg-type]
        assert [node.taken for node in nodes] == [True, False, True]


def test_what_was_taken_is_given_back_when_the_wait_is_interrupted(host: Host) -> None:
    first = FakeNode("a", dataclasses.replace(host, boot_id="a"))
    second = FakeNode("b", dataclasses.replace(host, boot_id="b"), busy=1)

    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), alone_on([first, second], interrupt):  # type: ignore[list-item]
        pytest.fail("it was not interrupted")
    assert not first.taken


def test_the_lock_of_a_host_is_one_for_all_processes_and_goes_with_the_one_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    mine = HostLock(path)
    assert mine.take() and mine.take()
    assert not HostLock(path).take()
    mine.give()
    mine.give()
    holder = subprocess.Popen(
        [sys.executable, "-c", f"from workers.host_lock import *; print(HostLock(Path({str(path)!r})).take()); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "True\n"
    assert not mine.take()
    holder.kill()
    holder.communicate()
    assert mine.take()


def test_the_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        HostLock(tmp_path / "lock").take()
    assert not (tmp_path / "elsewhere").exists()
