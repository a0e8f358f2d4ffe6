"""How many rounds a run may have, and how many records they need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from loadgen.plan.trace import longest_share
from workers.spec import AccessSpec, RunSpec

Values = Mapping[str, Any]

FASTEST_FAULTS_PER_S = 1.5e6
"""Faults a second, over all vCPUs of a guest, that the records of a run have room for. A faster run ends its rounds when the room
is used up."""


def one_round(values: Values, strategy: Values) -> str:
    """Why a run of this configuration keeps one round; empty: it does not. `strategy`: its entry in the native registry."""
    source, server = values["source"], values["page_server"]
    reasons = {
        f"strategy={strategy['name']} restores the guest once": strategy["restore"] != "on_demand",
        "prefetch brings each page once": values["prefetch"]["name"] != "none",
        "source.push sends each page once": source["name"] == "remote" and source["push"],
        "source.cache=cold: after one round the snapshot is in the page cache": source["name"] == "file"
        and source["cache"] == "cold",
        "the page server makes faults on purpose": server["drop_events_share"] > 0
        or server["vanish_after_events"] > 0
        or server["fill_pause_us"] > 0
        or not server["contents_bit"],
        "page_server=external: a handler serves a guest once": server["name"] == "external",
        "measure_s=0": values["measure_s"] == 0,
        "rounds_limit=1": values["rounds_limit"] == 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def records(pages: int, access: AccessSpec, vcpus: int, limit: int, measure_s: float, rounds: int) -> tuple[int, int]:
    """(records preallocated a vCPU, every how-many-th fault is kept), so that a run keeps at most `limit` of them; 0: none.

    A vCPU faults on each page of its part once a round; `rounds`: most rounds of the run.
    """
    if limit == 0:
        return 0, 1
    a_round = pages if access.overlap else -(-pages // vcpus)
    if access.trace:
        a_round = min(pages, longest_share(access, vcpus))
    rounds = min(rounds, 1 + math.ceil(measure_s * FASTEST_FAULTS_PER_S / (a_round * vcpus)))
    expected = a_round * rounds
    kept = max(1, min(expected, limit // vcpus))
    sample_every = -(-expected // kept)
    # A page that is lost to a race or resolved again faults more than once: leave room for some.
    return kept + kept // 8 + 64, sample_every


def measured_s(spec: RunSpec, round_s: float) -> float:
    """Measured seconds of a run whose rounds take `round_s`."""
    return min(max(round_s, spec.measure_s), round_s * spec.most_rounds)
