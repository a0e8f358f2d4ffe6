"""Faults that are built into a page server on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workers.registry import strategy_entries


def problems(values: dict[str, Any]) -> Iterator[str]:
    """Those that would not happen, or break what they are not about."""
    server, entry = values["page_server"], strategy_entries()[values["strategy"]["name"]]
    if server["vanish_after_events"] and (entry["exit"] != "none" or not entry["userfaultfd"]):
        yield (
            f"page_server.vanish_after_events closes the last userfaultfd, and under strategy {entry['name']} the VMM process "
            "works with its own: use strategy=uffd_wait"
        )
    if server["vanish_after_events"] and server["readers_per_uffd"] > 1:
        yield (
            "page_server.vanish_after_events closes what other readers of the same userfaultfd are using: "
            "use page_server.readers_per_uffd=1"
        )
    if not server["contents_bit"] and values["memory"]["type"] == "anon":
        yield "page_server.contents_bit=false is about pages filled in place, and anonymous memory has none: use memory=shmem"
