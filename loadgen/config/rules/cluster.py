"""Hosts, guests, and time limits between the parts of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.config.bounds import MOST_VCPUS

NO_ADDRESS = "cluster=existing needs cluster.address, for example 10.0.0.1:6379; auto: the cluster this host belongs to"
LEAST_DEADMAN_S = 4.0
LEAST_RECOVERY_S = 5.0


def problems(values: dict[str, Any]) -> Iterator[str]:
    """Why the guests cannot be held by the cluster."""
    cluster = values["cluster"]
    if cluster["name"] == "existing" and not cluster["address"]:
        yield NO_ADDRESS
    if cluster["name"] == "existing" and values["swap"]["name"] != "none":
        yield (
            f"swap={values['swap']['name']} is set up on the driver's own host only: under cluster=existing use swap=none and "
            "what the nodes have"
        )
    if values["guests"] * values["vcpus"] > MOST_VCPUS:
        yield (
            f"guests={values['guests']} of vcpus={values['vcpus']} are more than {MOST_VCPUS} vCPUs, which is all that "
            "16-bit numbers can distinguish: use fewer of either"
        )


def patience(values: dict[str, Any]) -> Iterator[str]:
    """Time limits that are too short."""
    deadman_s, watchdog_s = values["cluster"]["deadman_s"], values["watchdog_s"]
    if 0 < deadman_s < LEAST_DEADMAN_S:
        yield (
            f"cluster.deadman_s={deadman_s:g} is too short: the driver reports to its actors every half second at most; use at "
            f"least {LEAST_DEADMAN_S:g}, or 0 for none"
        )
    if values["recover"] and 0 < watchdog_s < LEAST_RECOVERY_S:
        yield (
            f"recover=true starts another page server, which takes seconds, and watchdog_s={watchdog_s:g} ends the run before: "
            f"use at least {LEAST_RECOVERY_S:g}, or 0 for none"
        )
