"""What served a guest, by a short name, and what it cost: external fault handlers beside our page server and a mapped file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

Row = Mapping[str, Any]

RUN_COLUMNS = (
    *("page_server", "handler", "strategy", "prefetch", "access_order", "vcpus", "pages_resolved", "pages_per_s"),
    *("latency_p50_ns", "latency_p99_ns", "cpu_ns_per_page", "prefetched_pages"),
    *("handler_cpu_s", "handler_peak_bytes", "handler_threads", "handler_voluntary_switches", "handler_involuntary_switches"),
    *("pages_brought_ahead", "pages_brought_untouched"),
)
VCPU_COLUMNS = ("start_ns", "mark_ns", "mark_pages", "longest_fault_ns")


def served_by(run: Row) -> str:
    """Of a handler its command without folders and without what is filled in; `ours` and the strategy of others, with their
    prefetcher."""
    if run.get("page_server") == "external":
        return _short(run.get("handler") or "external")
    name = "ours" if run.get("strategy") == "uffd_wait" else str(run.get("strategy"))
    return name if run.get("prefetch") in (None, "none") else f"{name} prefetch={run['prefetch']}"


def _short(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    left = [re.sub(r"\S*\{(socket|snapshot)\}\S*", "", word) for word in words]
    kept = [PurePath(words[0]).name, *(word for word in left[1:] if word and word not in ("--socket", "--snapshot"))]
    return " ".join(kept)


def per_page(run: Row, amount: float | None) -> float | None:
    """So much of `amount` for a page that was touched."""
    return amount / run["pages_resolved"] if amount is not None and run["pages_resolved"] else None


def switches(run: Row) -> int | None:
    """Context switches of the handler's threads."""
    both = (run["handler_voluntary_switches"], run["handler_involuntary_switches"])
    return None if None in both else sum(both)
