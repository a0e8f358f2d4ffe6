"""Machines of their own on this one: each with processes, a host name and a network that are not ours, alone or on a bridge.
All of it is gone with the processes that hold it, however the test ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests import needs
from tests.e2e.processes import below, command_line

FIRST_PROCESS = 'hostname "$0" && ip link set lo up && echo up; sleep infinity & wait'
"""It reaps whatever is left to it, and everything else in its machine ends with it."""


def require_machines() -> None:
    """Skip the test by name without root, or one of the programs that make machines."""
    needs.root()
    needs.programs("iproute2 util-linux hostname", "ip", "nsenter", "unshare", "setpriv", "hostname")


@dataclass(frozen=True)
class Machine:
    """`first`: pid of its first process, as it is seen from here; `holder`: the process that it ends with."""

    name: str
    address: str
    first: int
    holder: subprocess.Popen[bytes]

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs `arguments` there, in the current folder; what it runs are processes below it."""
        apart = ("--net", "--uts", "--pid", "--mount")
        return ["nsenter", f"--target={self.first}", *apart, "--wd=.", *arguments]

    def ip(self, *arguments: str) -> None:
        """Run ip(8) in its network, where a pid is one of ours."""
        inside = ["nsenter", f"--net=/proc/{self.first}/ns/net", "ip", *arguments]
        subprocess.run(inside, check=True, capture_output=True, timeout=20)

    def plug(self, device: str) -> None:
        """Its end of a cable is there: give it the machine's address."""
        self.ip("addr", "add", f"{self.address}/24", "dev", device)
        self.ip("link", "set", device, "up")

    def end(self) -> None:
        """All of its processes at once, as a host that loses its power; nothing when it has ended."""
        self.holder.kill()

    def running(self, title: str) -> bool:
        """Whether a process of it has this in its command line."""
        space = os.readlink(f"/proc/{self.first}/ns/pid")
        return any(
            _space(entry) == space and title in command_line(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()
        )


def _space(pid: str) -> str:
    """The processes that this one is among; empty when it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


@contextlib.contextmanager
def machine(name: str, address: str) -> Iterator[Machine]:
    """One without a cable; lo is up."""
    apart = ("--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *apart, "sh", "-c", FIRST_PROCESS, name], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"up\n", "no namespaces"
        yield Machine(name, address, below(holder.pid)[0], holder)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


@contextlib.contextmanager
def lone_machine(name: str) -> Iterator[Machine]:
    """One with a cable from itself to itself, for programs that need an address that is not loopback."""
    with machine(name, "10.79.0.1") as one:
        one.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        one.ip("link", "set", "eth1", "up")
        one.plug("eth0")
        yield one


class Network:
    """Machines on one bridge, by name, those that have ended too until others take their place."""

    def __init__(self, switch: Machine, stack: contextlib.ExitStack) -> None:
        self.machines: dict[str, Machine] = {}
        self._switch, self._stack = switch, stack
        self._ports: dict[str, str] = {}
        self._made = 0

    def add(self, name: str) -> Machine:
        """A machine at an address of its own, in the place of the one that had its name."""
        self._made += 1
        one = self._stack.enter_context(machine(name, f"10.78.0.{self._made}"))
        port = f"port{self._made}"
        self._switch.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(one.first))
        self._switch.ip("link", "set", port, "master", "bridge", "up")
        one.plug("eth0")
        self.machines[name], self._ports[name] = one, port
        return one

    def cut(self, name: str) -> None:
        """A machine is cut off from all others, and lives on."""
        self._switch.ip("link", "set", self._ports[name], "down")


@contextlib.contextmanager
def bridged(*names: str) -> Iterator[Network]:
    """Machines of these names."""
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(machine("switch", ""))
        switch.ip("link", "add", "bridge", "type", "bridge")
        switch.ip("link", "set", "bridge", "up")
        network = Network(switch, stack)
        for name in names:
            network.add(name)
        yield network
