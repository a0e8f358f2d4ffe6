"""What the user sees while a sweep runs: a bar on a terminal, a line a run elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loadgen.guest_run import Measured
from loadgen.plan import PlannedRun


class SweepProgress:
    """Counts runs of `total`; `total` 0 when nobody knows it (a job of a launcher that runs elsewhere)."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self._total = total
        self._done = 0
        self._quiet = quiet
        self._console = Console(file=sys.stderr, highlight=False)
        self._bar: Progress | None = None
        self._began = 0.0
        if not quiet and total and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task("starting", total=total, rate="")
            self._bar.start()

    def begin(self, planned: PlannedRun) -> None:
        """A run starts."""
        self._began = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, description=title(planned), rate="")

    def look(self, now: dict[str, int]) -> None:
        """The run under way, at most twice a second."""
        if self._bar is not None:
            rate = now["pages_resolved"] / max(time.monotonic() - self._began, 1e-9) / 1000
            self._bar.update(self._task, rate=f"{rate:.0f} kpages/s")

    def end(self, planned: PlannedRun, measured: Measured) -> None:
        """A run has ended and is stored."""
        self._done += 1
        why = f": {measured.reason}" if measured.reason else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
            if measured.status != "ok":
                self._bar.console.print(f"{title(planned)}: {measured.status}{why}", markup=False)
        elif not self._quiet:
            number = f"[{self._done}/{self._total}] " if self._total else ""
            took = time.monotonic() - self._began
            self._console.print(f"{number}{title(planned)}: {measured.status}{why} ({took:.1f} s)", markup=False, soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back; idempotent."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def title(planned: PlannedRun) -> str:
    """A run in a few words."""
    spec = planned.spec
    return f"{spec.strategy.name} {planned.fault_mix_name} {spec.memory.type} vcpus={spec.vcpus} repeat={spec.repeat}"
