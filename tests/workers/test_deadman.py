"""An actor without a driver ends itself; one with a driver does not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from loadgen.cluster.heartbeat import FASTEST_S, Heartbeat
from tests.wait import wait_for
from workers.deadman import STATUS, Deadman
from workers.vcpu import Vcpu


def test_without_a_sign_of_life_the_process_ends_with_all_its_threads() -> None:
    script = (
        "import threading, time; from workers.page_server import PageServer\n"
        "threading.Thread(target=time.sleep, args=(60,)).start(); PageServer(deadman_s=0.3); time.sleep(60)"
    )
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", script], timeout=40, check=False).returncode == STATUS
    assert time.monotonic() - began < 30


def test_with_signs_of_life_it_goes_on_and_without_them_it_ends_when_the_last_one_is_too_old() -> None:
    ended = threading.Event()
    deadman = Deadman(2.0, ended.set)
    for _ in range(12):
        time.sleep(0.2)
        deadman.sign()
    assert not ended.is_set()
    last = time.monotonic()
    assert ended.wait(20)
    assert time.monotonic() - last >= 1.9


def test_a_timer_of_zero_seconds_is_off_and_one_that_is_stopped_ends_nothing() -> None:
    ended = threading.Event()
    Deadman(0.0, ended.set)
    stopped = Deadman(1.0, ended.set)
    stopped.stop()
    assert not ended.wait(1.2)


class Listener:
    """An actor that counts the signs it gets, and whose handle may be that of a dead one."""

    def __init__(self, dead: bool = False) -> None:
        self.signs, self.dead = 0, dead
        self.sign_of_life = self

    def options(self, concurrency_group: str) -> Listener:
        assert concurrency_group == "aside"  # while another call is under way
        return self

    def remote(self) -> None:
        if self.dead:
            raise RuntimeError("gone")
        self.signs += 1


def test_the_heartbeat_reaches_every_actor_beside_a_dead_one() -> None:
    actors = [Listener(), Listener(dead=True), Listener()]
    began = time.monotonic()
    heartbeat = Heartbeat(0.1, lambda: actors)
    wait_for(lambda: actors[2].signs >= 2, "two signs of life")
    heartbeat.stop()
    assert actors[0].signs == actors[2].signs
    assert actors[0].signs <= (time.monotonic() - began) / FASTEST_S
    signs = actors[0].signs
    time.sleep(0.6)
    assert actors[0].signs == signs


def test_every_actor_takes_a_sign_of_life() -> None:
    Vcpu().sign_of_life()
