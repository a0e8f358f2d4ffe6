"""Waits until nodes have joined a cluster: `python -m tests.cluster.joined ADDRESS COUNT`, where the head node is."""

from __future__ import annotations

import contextlib
import socket
import sys
import time

import ray

AGAIN_S = 0.2


def wait_for_port(address: str) -> None:
    """Until the head listens: ray.init would take half a minute to see that it does not."""
    host, _, port = address.rpartition(":")
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(AGAIN_S)


def wait_for_nodes(address: str, count: int) -> None:
    """Until so many are alive; the head's port listens before its own node has joined."""
    while not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False)
        except Exception:
            time.sleep(AGAIN_S)
    while sum(one["Alive"] for one in ray.nodes()) < count:
        time.sleep(AGAIN_S)


if __name__ == "__main__":
    wait_for_port(sys.argv[1])
    wait_for_nodes(sys.argv[1], int(sys.argv[2]))
