"""CPU time of a process and all its descendants, sampled from outside."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Sample = tuple[float, Mapping[int, float]]
"""(monotonic seconds, {pid: CPU seconds so far})"""


def cpu_seconds(root: int) -> dict[int, float]:
    """CPU seconds so far of `root` and each living descendant."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        used[pid] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    tree: dict[int, float] = {}
    for pid in parents:
        at = pid
        while at not in (root, 0):
            at = parents.get(at, 0)
        if at == root:
            tree[pid] = used[pid]
    return tree


def sampled(root: int, running: Callable[[], bool], interval_s: float = 0.5) -> list[Sample]:
    """Samples of the tree under `root`, every `interval_s`, for as long as `running` says so."""
    samples: list[Sample] = []
    while running():
        samples.append((time.monotonic(), cpu_seconds(root)))
        time.sleep(interval_s)
    return samples


def quietest(samples: Sequence[Sample], window_s: float) -> float:
    """The least CPU time, in seconds, the tree used in any stretch of `window_s`: start-up and tear-down are louder.

    Raises ValueError when the samples do not span the window.
    """
    least: float | None = None
    for at, (start, before) in enumerate(samples):
        after = next((used for when, used in samples[at:] if when - start >= window_s), None)
        if after is None:
            break
        spent = sum(used - before.get(pid, 0.0) for pid, used in after.items())
        least = spent if least is None else min(least, spent)
    if least is None:
        raise ValueError(f"the samples span less than {window_s} s")
    return least
