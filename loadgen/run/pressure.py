"""What limits did to a run: time its threads were throttled, processes that were killed for lack of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadgen.cluster.nodes import Node
from loadgen.host.cgroups import Pressure

THROTTLED_FROM_S = 0.001
"""Less than a scheduler period cannot be separated from the calls around the measured phase."""


class Pressures:
    """Looks at the hosts of a run when it is made, and at the begin and the end of its measured phase."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = list({node.name: node for node in nodes}.values())
        self._before = self._start = self._end = self._look()

    def begin(self) -> None:
        """The measured phase begins."""
        self._start = self._look()

    def end(self) -> None:
        """The measured phase is over."""
        self._end = self._look()

    def columns(self, distrust: str | None) -> dict[str, Any]:
        """Columns of the run's row; `distrust`: what it is flagged for so far."""
        throttled_s = max(self._end[name].throttled_s - self._start[name].throttled_s for name in self._end)
        quotas = [node.host.limits.cpu_quota for node in self._nodes]
        cpus = min((quota.cpus for quota in quotas if quota is not None), default=None)
        columns: dict[str, Any] = {"cpu_quota": cpus, "throttled_s": throttled_s if cpus is not None else None}
        if throttled_s < THROTTLED_FROM_S:
            return columns
        doubt = f"throttled by a CPU quota ({throttled_s:.2f} s, {cpus or 0:g} CPUs)"
        return columns | {"trusted": False, "distrust": "; ".join(filter(None, (distrust, doubt)))}

    def oom_kill(self) -> str:
        """What was short of memory when a process was killed for it since this was made; empty when none was."""
        for name, after in self._look().items():
            for what, kills in after.oom_kills.items():
                if kills > self._before[name].oom_kills.get(what, 0):
                    return what if len(self._nodes) == 1 else f"{what} on {name}"
        return ""

    def _look(self) -> dict[str, Pressure]:
        return {node.name: node.pressure() for node in self._nodes}
