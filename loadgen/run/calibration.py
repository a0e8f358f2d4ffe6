"""What a run's emulated operations cost on its hosts, calibrated before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loadgen.cluster.answers import Answers, asked
from loadgen.cluster.session import Seat
from workers import _native
from workers.registry import engine_entry
from workers.spec import RunSpec

Calibrated = Mapping[str, float]
"""`_native.calibrate` on a run's hosts; of several, the largest of each. Empty: exits are real, or no huge page was free."""

OPERATIONS = ("exit", "slow_gup", "entry")


def emulated_exit(spec: RunSpec) -> str:
    """The kind of exit whose emulation the run pays for; `none` where exits are real."""
    if not engine_entry(spec.engine)["emulates_exits"]:
        return "none"
    return _native.exit_kind(spec.strategy.name, spec.strategy.options)


def calibrate(seats: Sequence[Seat], answers: Answers) -> Calibrated:
    """Calibrate now, in an actor of each host, as its exits are made. Raises Loss, and what an actor raised."""
    spec = seats[0].spec
    if not engine_entry(spec.engine)["emulates_exits"]:
        return {}
    kind = emulated_exit(spec)
    if kind == "none":
        return _native.calibrate(kind, spec.memory.type, 0)
    pages = spec.memory.pages // (1 if spec.access.overlap else spec.vcpus)
    actors = {seat.node.name: seat.vcpus[0] for seat in seats if seat.vcpus}.values()
    found = answers.get("calibrate", asked(actors, "calibrate", kind, spec.memory.type, pages))
    return {name: max(one[name] for one in found) for name in found[0]} if found and all(found) else {}


def calibration_columns(before: Calibrated, after: Calibrated) -> dict[str, Any]:
    """Columns of a run's row; what an operation costs is the mean of both, or of the one there is."""
    columns: dict[str, Any] = {}
    for name in OPERATIONS:
        for when, calibrated in (("before", before), ("after", after)):
            columns[f"emulated_{name}_{when}_ns"] = calibrated.get(f"{name}_ns")
            columns[f"emulated_{name}_{when}_spread_ns"] = calibrated.get(f"{name}_spread_ns")
    for name in (*OPERATIONS, "arrival"):
        there = [one[f"{name}_ns"] for one in (before, after) if one]
        columns[f"emulated_{name}_ns"] = sum(there) / len(there) if there else None
    return columns
