"""A host measures for one run at a time: others wait for it, with a line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from loadgen.cluster.nodes import Node

ASK_AGAIN_S = 0.1


@contextmanager
def alone_on(nodes: Sequence[Node], say: Callable[[str], None]) -> Iterator[float]:
    """While it lasts no other driver measures on these hosts; yields the seconds waited for that. `say` is called with a
    line before a wait, once a host.

    Hosts are taken in one order everywhere, so that two drivers never hold what the other waits for; nodes of one machine are
    one host.
    """
    hosts = {node.host.boot_id or node.name: node for node in nodes}
    taken: list[Node] = []
    began = time.monotonic()
    waited = False
    try:
        for _, node in sorted(hosts.items()):
            announced = False
            while not node.take():
                if not announced:
                    say(f"waiting for {node.name}: another run measures there (cluster.exclusive=false runs beside it)")
                announced = waited = True
                time.sleep(ASK_AGAIN_S)
            taken.append(node)
        yield time.monotonic() - began if waited else 0.0
    finally:
        for node in taken:
            node.give()
