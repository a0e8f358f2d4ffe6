"""What sets each job of a sweep apart from the others, as overrides: progress lines, plans and rows name it."""

from __future__ import annotations

from collections.abc import Sequence

from loadgen.config.command_line import from_hydra


def set_apart(jobs: Sequence[Sequence[str]]) -> list[str]:
    """For each job its overrides whose values differ between the jobs or are missing in some; of a single job all of them."""
    by_key = [{key_of(override): override for override in job} for job in jobs]
    seen: dict[str, set[str | None]] = {}
    for job in by_key:
        for key, override in job.items():
            seen.setdefault(key, set()).add(override)
    for key, overrides in seen.items():
        if any(key not in job for job in by_key):
            overrides.add(None)
    swept = {key for key, overrides in seen.items() if len(overrides) > 1 or len(jobs) == 1}
    return [from_hydra(override for key, override in job.items() if key in swept) for job in by_key]


def key_of(override: str) -> str:
    """The key an override sets, without the mark of an addition."""
    return override.partition("=")[0].lstrip("+")
