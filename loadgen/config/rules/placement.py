"""On which CPUs threads are put."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.host.probe import Host


def problems(values: dict[str, Any], host: Host) -> Iterator[str]:
    """CPUs that are not given, or that this process may not use."""
    placement = values["placement"]
    named = [*placement["vcpu_cpus"], *placement["reader_cpus"]]
    if placement["policy"] == "explicit" and not placement["vcpu_cpus"]:
        yield "placement=explicit needs placement.vcpu_cpus, for example placement.vcpu_cpus=[0,1]"
    absent = sorted(set(named) - set(host.cpus))
    if absent:
        yield (
            f"placement names CPU {', '.join(map(str, absent))}, which this process may not use: "
            f"use some of {', '.join(map(str, host.cpus))}"
        )
