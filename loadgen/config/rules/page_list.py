"""A file of page numbers that a key names: a trace, or a working set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.plan.plan import MIB
from loadgen.plan.trace import pages_in


def page_list(key: str, path: str, memory: dict[str, Any], remedy: str) -> Iterator[str]:
    """Why the file at `path`, the value of `key`, cannot be used for a region of `memory`; `remedy`: where such a file comes
    from."""
    if not path:
        yield f"{key} is empty and has to name a file of page numbers, one a line: {remedy}"
        return
    try:
        pages = pages_in(path)
    except OSError as error:
        yield f"{key}={path} cannot be read: {error.strerror}; {remedy}"
        return
    except ValueError as error:
        yield f"{key}={path}: {error}"
        return
    count = memory["region_mib"] * MIB // memory["page_bytes"]
    outside = next((page for page in pages if page >= count), None)
    if not pages:
        yield f"{key}={path} contains no page number: {remedy}"
    elif outside is not None:
        yield (
            f"{key}={path} contains page {outside} and the region has {count} pages: use a file of this region, "
            "or another memory.region_mib"
        )
