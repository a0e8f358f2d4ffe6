"""What limits did to a run: time its threads were throttled, processes that were killed for lack of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadgen.cluster.nodes import Node
from loadgen.host.cgroups import Pressure
from results.derive.trust import THROTTLED_FROM_S, throttled


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
        doubt = throttled(throttled_s, cpus)
        return columns | {"trusted": False, "distrust": "; ".join(filter(None, (distrust, doubt)))}

    def explained(self, reason: str) -> str:
        """The reason of a lost process, with the kill for lack of memory that came about since this was made. A kill in the
        process's own group is the cause. One that only the whole host counts may have been of any process: it is no cause."""
        for name, after in self._look().items():
            before, where = self._before[name], f" on {name}" if len(self._nodes) > 1 else ""
            if _rose(before.oom_kills, after.oom_kills):
                short = _limit_reached(before, after) or "the host has no memory left"
                return f"a process was killed for lack of memory: {short}{where}; {reason}"
            if after.oom_kills is None and _rose(before.host_oom_kills, after.host_oom_kills):
                reason = f"{reason}; a process was killed for lack of memory meanwhile{where}, this one or another"
        return reason

    def _look(self) -> dict[str, Pressure]:
        return {node.name: node.pressure() for node in self._nodes}


def _limit_reached(before: Pressure, after: Pressure) -> str:
    """The innermost group's."""
    reached = (path for path, times in after.limits_reached.items() if _rose(before.limits_reached.get(path), times))
    return next((f"the control group reached its limit ({path})" for path in reached), "")


def _rose(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before
