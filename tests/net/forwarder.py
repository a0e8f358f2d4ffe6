"""Forwards packets between a TUN device in each of two network namespaces, every packet late by a delay and a jitter.

What netem would do where a kernel has it. Usage: `python -m tests.net.forwarder PID PID DELAY_MS JITTER_MS`: the namespaces are
those of the two processes. Prints `ready` when both devices are there; ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

DEVICE = "ulg0"
MTU = 9000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
HELD = 4096
"""Packets under way in one direction; more are dropped, as a router would."""


def open_device(pid: int) -> int:
    """A TUN device named `DEVICE` in the network namespace of process `pid`."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(namespace)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return device


def forward(devices: tuple[int, int], delay_s: float, jitter_s: float) -> None:
    """Until standard input ends. Packets of one direction stay in order."""
    held: tuple[deque[tuple[float, bytes]], deque[tuple[float, bytes]]] = (deque(), deque())
    while True:
        now = time.monotonic()
        for side, queue in enumerate(held):
            while queue and queue[0][0] <= now:
                packet = queue.popleft()[1]
                with contextlib.suppress(OSError):  # the device is full, or down: lost
                    os.write(devices[1 - side], packet)
        nearest = min((queue[0][0] for queue in held if queue), default=None)
        readable, _, _ = select.select([*devices, sys.stdin], [], [], None if nearest is None else max(0.0, nearest - now))
        if sys.stdin in readable:
            return
        for side, device in enumerate(devices):
            while device in readable and len(held[side]) < HELD:
                try:
                    packet = os.read(device, MTU + 64)
                except OSError:
                    break
                due = time.monotonic() + delay_s + random.random() * jitter_s
                held[side].append((max(due, held[side][-1][0]) if held[side] else due, packet))


if __name__ == "__main__":
    opened = open_device(int(sys.argv[1])), open_device(int(sys.argv[2]))
    print("ready", flush=True)
    forward(opened, float(sys.argv[3]) / 1000, float(sys.argv[4]) / 1000)
