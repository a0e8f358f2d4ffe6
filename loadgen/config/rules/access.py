"""The order of accesses, where it comes from a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.plan.plan import MIB, read_trace


def problems(values: dict[str, Any]) -> Iterator[str]:
    """Why the trace cannot be walked."""
    if values["access"]["order"] != "trace":
        return
    path = values["access"]["trace_file"]
    if not path:
        yield "access=trace needs access.trace_file, a file of page numbers, one a line"
        return
    try:
        pages = read_trace(path)
    except OSError as error:
        yield f"access.trace_file={path} cannot be read: {error.strerror}"
        return
    except ValueError as error:
        yield f"access.trace_file={path} holds something that is no page number: {error}"
        return
    count = values["memory"]["region_mib"] * MIB // values["memory"]["page_bytes"]
    outside = [page for page in pages if not 0 <= page < count]
    if not pages or outside:
        what = f"touches page {outside[0]} of a region of {count} pages" if outside else "is empty"
        yield f"access.trace_file={path} {what}: use a trace of this region, or another memory.region_mib"
