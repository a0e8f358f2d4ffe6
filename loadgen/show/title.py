"""A run in a few words, for progress lines and plans."""

from __future__ import annotations

import shlex

from loadgen.plan.plan import NOT_MEASURED, PlannedRun
from workers.spec import RunSpec


def title(planned: PlannedRun) -> str:
    """Strategy, fault mix, memory type and vCPUs, then whatever else is swept, as overrides, then the repeat."""
    return " ".join(words(planned))


def words(planned: PlannedRun) -> list[str]:
    """The words of the title."""
    spec = planned.spec
    guests = len(planned.guests)
    named = {"strategy": spec.strategy.name, "fault_mix": planned.fault_mix_name, "memory": spec.memory.type}
    named |= {"memory.type": spec.memory.type, "vcpus": str(spec.vcpus), "guests": str(guests)}
    overrides = [one.lstrip("+").partition("=") for one in shlex.split(planned.job_overrides)]
    swept = [
        f"{key}={value}" for key, _, value in overrides if named.get(key) != value and key.partition(".")[0] not in NOT_MEASURED
    ]
    several = [f"guests={guests}"] if guests > 1 else []
    first = [spec.strategy.name, planned.fault_mix_name, spec.memory.type, *several, f"vcpus={spec.vcpus}"]
    return [*first, *_folded(spec), *swept, f"repeat={spec.repeat}"]


def _folded(spec: RunSpec) -> list[str]:
    """That a trace is of more vCPUs than replay it."""
    recorded = max(spec.access.recorded.vcpu, default=0) + 1
    return [] if spec.access.overlap or recorded <= spec.vcpus else [f"trace_of_{recorded}_vcpus_folded"]
