"""What the group `prefetch` may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.plan.plan import MIB, read_trace
from workers.registry import strategy_entry
from workers.spec import PrefetchSpec

KEYS = ("working_set_file", "batch_pages", "mib_per_s")
WRITES_ONE = "`loadgen-report working-set` writes one from a run's faults"


def problems(values: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the group in a resolved configuration whose words are known, each with what to do."""
    asked, strategy = values["prefetch"], strategy_entry(values["strategy"]["name"])
    if asked["name"] == "none":
        initial = {"working_set_file": "", "batch_pages": PrefetchSpec().batch_pages, "mib_per_s": PrefetchSpec().mib_per_s}
        for key in KEYS:
            if asked[key] != initial[key]:
                yield f"prefetch.{key}={asked[key]} is read under prefetch=order and prefetch=working_set only, not none"
        return
    if not strategy["userfaultfd"] and strategy["restore"] != "file_map":
        yield (
            f"prefetch={asked['name']} installs pages before they are touched, and under strategy {strategy['name']} the page "
            "server installs none: use prefetch=none, or another strategy"
        )
    if asked["name"] != "working_set":
        if asked["working_set_file"]:
            yield f"prefetch.working_set_file is read under prefetch=working_set only, not {asked['name']}"
        return
    yield from _working_set(asked["working_set_file"], values["memory"]["region_mib"] * MIB // values["memory"]["page_bytes"])


def _working_set(path: str, count: int) -> Iterator[str]:
    if not path:
        yield f"prefetch=working_set needs prefetch.working_set_file, a file of page numbers: {WRITES_ONE}"
        return
    try:
        pages = read_trace(path)
    except OSError as error:
        yield f"prefetch.working_set_file={path} cannot be read: {error.strerror}; {WRITES_ONE}"
        return
    except ValueError as error:
        yield f"prefetch.working_set_file={path} holds something that is no page number: {error}"
        return
    outside = next((page for page in pages if not 0 <= page < count), None)
    if outside is not None:
        yield (
            f"prefetch.working_set_file={path} holds page {outside} of a region of {count} pages: "
            "use a working set of this region, or another memory.region_mib"
        )
