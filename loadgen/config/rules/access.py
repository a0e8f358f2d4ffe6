"""The accesses of the vCPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.config.rules.page_list import page_list

REMEDY = "write the pages in the order of the accesses"


def problems(values: dict[str, Any]) -> Iterator[str]:
    """Why the pages cannot be accessed in this order."""
    access = values["access"]
    if access["order"] == "trace":
        yield from page_list("access.trace_file", access["trace_file"], values["memory"], REMEDY)
    if access["order"] == "none" and access["hold_s"] == 0:
        yield "access=none touches no page and the run would end at once: use a positive access.hold_s"
