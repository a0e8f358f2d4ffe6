"""Pages that are installed before they are touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.config.rules.page_list import page_list
from workers.registry import strategy_entry

WRITES_ONE = "`loadgen-report working-set` writes one from a run's faults"


def problems(values: dict[str, Any]) -> Iterator[str]:
    """Why the prefetcher cannot run."""
    asked, strategy = values["prefetch"], strategy_entry(values["strategy"]["name"])
    if asked["name"] == "none":
        return
    if not strategy["userfaultfd"] and strategy["restore"] != "file_map":
        yield (
            f"prefetch={asked['name']} installs pages before they are touched, and under strategy {strategy['name']} the page "
            "server installs none: use prefetch=none, or another strategy"
        )
    if asked["name"] == "working_set":
        yield from page_list("prefetch.working_set_file", asked["working_set_file"], values["memory"], WRITES_ONE)
