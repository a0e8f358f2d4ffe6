"""Two network namespaces with a link of a given delay, jitter, loss and rate between them; all of it gone with the processes
that hold it, however the test ends."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import needs
from tests.net.forwarder import DEVICE, MTU

ROOT = Path(__file__).resolve().parents[2]
ADDRESSES = ("10.77.0.1", "10.77.0.2")


@dataclass
class Side:
    """One end: commands run in its namespace."""

    pid: int
    address: str

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs `arguments` there; it is killed when this process dies."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/proc/{self.pid}/ns/net", *arguments]

    def run(self, *arguments: str, given: str | None = None) -> str:
        """Run to the end; what it printed. Raises CalledProcessError."""
        return subprocess.run(
            self.command(*arguments), input=given, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start in the background."""
        return subprocess.Popen(self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)

    def limit(self, rate: str) -> None:
        """What leaves here leaves at most at `rate` (tc's words), by a token bucket."""
        self.run("tc", "qdisc", "add", "dev", DEVICE, "root", "tbf", "rate", rate, "burst", "64kb", "latency", "200ms")

    def lose(self, percent: int) -> None:
        """Drop so much of what arrives here, at random."""
        self._rules(f"numgen random mod 100 < {percent} counter drop")

    def vanish(self) -> None:
        """Drop all that arrives here from now on, without a word."""
        self._rules("counter drop")

    def dropped(self) -> int:
        """Packets that `lose` and `vanish` have dropped."""
        listed = json.loads(self.run("nft", "--json", "list", "ruleset"))["nftables"]
        expressions = [one for entry in listed if "rule" in entry for one in entry["rule"]["expr"]]
        return sum(one["counter"]["packets"] for one in expressions if "counter" in one)

    def _rules(self, rule: str) -> None:
        chain = f"add chain ip t in {{ type filter hook input priority 0; }}\nadd rule ip t in iifname {DEVICE} {rule}\n"
        self.run("nft", "-f", "-", given=f"add table ip t\n{chain}")


def require(*programs: str) -> None:
    """Skip the test by name without root, /dev/net/tun, or one of these programs."""
    if os.getuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("network namespaces and TUN devices need root and /dev/net/tun")
    needs.programs("iproute2 nftables util-linux", "ip", "tc", "nsenter", "unshare", "setpriv", *programs)


@contextlib.contextmanager
def delayed_link(delay_ms: float, jitter_ms: float = 0.0) -> Iterator[tuple[Side, Side]]:
    """Two ends, each `delay_ms` (one way) away from the other."""
    with contextlib.ExitStack() as stack:
        sides = tuple(Side(stack.enter_context(_namespace()), address) for address in ADDRESSES)
        asked = (str(value) for value in (sides[0].pid, sides[1].pid, delay_ms, jitter_ms))
        forwarder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.net.forwarder", *asked],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(_end, forwarder)
        assert forwarder.stdout is not None and forwarder.stdout.readline() == "ready\n"
        for side in sides:
            side.run("ip", "link", "set", "lo", "up")
            side.run("ip", "addr", "add", f"{side.address}/30", "dev", DEVICE)
            side.run("ip", "link", "set", DEVICE, "mtu", str(MTU), "up")
        yield sides[0], sides[1]


@contextlib.contextmanager
def _namespace() -> Iterator[int]:
    """A network namespace that lives as long as a sleeping process; its pid."""
    ours = os.readlink("/proc/self/ns/net")
    holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])
    try:
        deadline = time.monotonic() + 10
        while os.readlink(f"/proc/{holder.pid}/ns/net") == ours:
            assert time.monotonic() < deadline and holder.poll() is None, "no network namespace"
            time.sleep(0.005)
        yield holder.pid
    finally:
        _end(holder)


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


@contextlib.contextmanager
def source_at(side: Side, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`loadgen-source` there: its process and HOST:PORT."""
    command: Sequence[str] = [sys.executable, "-m", "workers.source_command", "--listen", f"{side.address}:0", *arguments]
    process = side.start(*command)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("serving"), said
        yield process, said.split()[-1]
    finally:
        _end(process)
