"""Hosts, guests, and how long the parts of a run wait for each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MOST_VCPUS = 1 << 16
LEAST_DEADMAN_S = 4.0
LEAST_RECOVERY_S = 5.0


def problems(values: dict[str, Any]) -> Iterator[str]:
    """What the cluster cannot be asked for."""
    cluster = values["cluster"]
    if cluster["name"] == "existing" and not cluster["address"]:
        yield "cluster=existing needs cluster.address, for example 10.0.0.1:6379; auto: the cluster this host belongs to"
    if cluster["name"] == "existing" and values["swap"]["name"] != "none":
        yield (
            f"swap={values['swap']['name']} is set up on the driver's own host only: under cluster=existing use swap=none and "
            "what the nodes have"
        )
    if cluster["name"] == "local":
        for key in ("address", "leave_out"):
            if cluster[key]:
                yield f"cluster.{key} is read under cluster=existing only, not local"
    if values["guests"] * values["vcpus"] > MOST_VCPUS:
        yield (
            f"guests={values['guests']} of vcpus={values['vcpus']} are more than the {MOST_VCPUS} vCPUs a run can number: "
            "use fewer of either"
        )


def patience(values: dict[str, Any]) -> Iterator[str]:
    """Waits too short for what they wait for."""
    deadman_s, watchdog_s = values["cluster"]["deadman_s"], values["watchdog_s"]
    if 0 < deadman_s < LEAST_DEADMAN_S:
        yield (
            f"cluster.deadman_s={deadman_s:g} is too short for a driver that gives a sign of life twice a second at most: use at "
            f"least {LEAST_DEADMAN_S:g}, or 0 for none"
        )
    if values["recover"] and 0 < watchdog_s < LEAST_RECOVERY_S:
        yield (
            f"recover=true needs some seconds to start another page server and watchdog_s={watchdog_s:g} ends the run before: "
            f"use at least {LEAST_RECOVERY_S:g}, or 0 for none"
        )
