"""What `loadgen-serve` shows: lines on stderr, or with --json events on stdout.

Events, one JSON object a line: `serving` (`socket`, `snapshot`, `bytes`, `hole_pages`); `vmm_began` (`vmm`, `pid`, `uid`,
`regions`, `page_bytes`, which is the smallest of `page_sizes`, `tracks_removes`, `names_threads`); `refused` (`pid`, `reason`);
`look`, at most twice a second (`vmms`, `faults`, `pages`, `pages_per_s` since the event before); `vmm_ended` (`vmm`, `status`,
`why`, COUNTED, `run_id` where it was stored); `serve_ended` (`vmms`, `refused`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any

from loadgen.serve.foreign_vmm import Ended, ForeignVmm

COUNTED = ("events", "served_pages", "zero_pages", "prefetched_pages", "removes", "eexist", "eagain", "records_dropped")
LOOK_EVERY_S = 0.5
LINE_EVERY_S = 5.0


class Shown:
    """`events`: JSON on stdout in the place of lines; `quiet`: neither, but for what is refused or fails."""

    def __init__(self, *, events: bool, quiet: bool) -> None:
        self._events, self._quiet = events, quiet
        self._looked, self._pages = time.monotonic(), 0
        self._gone_faults = self._gone_pages = 0
        self.vmms = self.refusals = self.failed = 0

    def serving(self, path: str, file: str, snapshot: Any) -> None:
        """It listens."""
        self._emit("serving", socket=path, snapshot=file, bytes=snapshot.bytes, hole_pages=snapshot.hole_pages)
        self._line(f"serving {file} ({snapshot.bytes >> 20} MiB, {snapshot.hole_pages} pages in holes) at {path}")

    def began(self, vmm: ForeignVmm) -> None:
        """A VMM has shaken hands."""
        self.vmms += 1
        hello = vmm.hello
        known = {name: getattr(hello, name) for name in ("page_bytes", "page_sizes", "tracks_removes", "names_threads")}
        self._emit("vmm_began", vmm=vmm.number, pid=vmm.pid, uid=vmm.uid, regions=len(hello.regions), **known)
        removes = ", reports removed pages" if hello.tracks_removes else ""
        plural = "s" if len(hello.regions) > 1 else ""
        self._line(
            f"VMM {vmm.number} (pid {vmm.pid}): {len(hello.regions)} region{plural}, "
            f"pages of {' and '.join(map(str, hello.page_sizes))} bytes{removes}"
        )

    def refused(self, pid: int, reason: str) -> None:
        """A peer was refused."""
        self.refusals += 1
        self._emit("refused", pid=pid, reason=reason)
        self._line(f"refused pid {pid}: {reason}", loud=True)

    def look(self, vmms: Collection[ForeignVmm]) -> None:
        """From time to time, while VMMs are served."""
        now = time.monotonic()
        if not vmms or now - self._looked < (LOOK_EVERY_S if self._events else LINE_EVERY_S):
            return
        counted = [vmm.counters() for vmm in vmms]
        faults = self._gone_faults + sum(one["events"] for one in counted)
        pages = self._gone_pages + sum(one["served_pages"] for one in counted)
        per_s = (pages - self._pages) / (now - self._looked)
        self._looked, self._pages = now, pages
        self._emit("look", vmms=len(vmms), faults=faults, pages=pages, pages_per_s=per_s)
        self._line(f"{len(vmms)} VMMs, {faults} faults, {pages} pages, {per_s / 1000:.1f} kpages/s")

    def ended(self, vmm: ForeignVmm, ended: Ended, why: str, run_id: str | None = None) -> None:
        """A VMM has gone, or is served no longer."""
        counters: Mapping[str, int] = ended.counters
        self._gone_faults += counters["events"]
        self._gone_pages += counters["served_pages"]
        self.failed += ended.status != "ok"
        stored = {"run_id": run_id} if run_id else {}
        self._emit(
            "vmm_ended", vmm=vmm.number, status=ended.status, why=why, **{name: counters[name] for name in COUNTED}, **stored
        )
        self._line(
            f"VMM {vmm.number}: {why}; {counters['events']} faults, {counters['served_pages']} pages of which "
            f"{counters['zero_pages']} zeros, {counters['prefetched_pages']} prefetched, {counters['removes']} remove events"
            + (f"; run {run_id}" if run_id else ""),
            loud=ended.status != "ok",
        )

    def close(self) -> None:
        """The command ends."""
        self._emit("serve_ended", vmms=self.vmms, refused=self.refusals)

    def _emit(self, event: str, **values: Any) -> None:
        if self._events:
            print(json.dumps({"event": event, **values}), flush=True)

    def _line(self, text: str, *, loud: bool = False) -> None:
        if loud or not (self._events or self._quiet):
            print(f"loadgen-serve: {text}", file=sys.stderr, flush=True)
