"""What people see while a sweep runs: a bar on a terminal, a line a run elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from loadgen.plan.plan import PlannedRun
from loadgen.run.progress_rate import Now, Pace
from loadgen.run.run import Measured


class Watcher(Protocol):
    """Is told of each run of a sweep as it goes."""

    def begin(self, planned: PlannedRun) -> None:
        """A run starts."""

    def say(self, text: str) -> None:
        """Something that people want to know before a run begins."""

    def look(self, look: dict[str, Any]) -> None:
        """The run under way, at most twice a second."""

    def end(self, planned: PlannedRun, measured: Measured) -> None:
        """A run has ended and is stored."""

    def close(self) -> None:
        """No more runs; idempotent."""


class Quiet:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def begin(self, planned: PlannedRun) -> None:
        """Nothing."""

    def look(self, look: dict[str, Any]) -> None:
        """Nothing."""

    def end(self, planned: PlannedRun, measured: Measured) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """A line a run on stderr, and one when a run seems stuck. `total` 0: nobody knows it (a job of a launcher elsewhere)."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self._total, self._done, self._first_began = total, 0, time.monotonic()
        self._console = console or stderr()

    def begin(self, planned: PlannedRun) -> None:
        """The run's time begins."""
        self._began = time.monotonic()
        self._pace, self._was_stuck = Pace(planned.spec, len(planned.guests)), False

    def say(self, text: str) -> None:
        """A line."""
        self._print(text)

    def look(self, look: dict[str, Any]) -> None:
        """A line when the run has begun to look stuck."""
        self._say_when_stuck(self._pace.take(look))

    def end(self, planned: PlannedRun, measured: Measured) -> None:
        """The run's line."""
        self._done += 1
        number = f"[{self._done}/{self._total}] " if self._total else ""
        now = time.monotonic()
        left_s = (now - self._first_began) / self._done * (self._total - self._done)
        left = f", about {left_s:.0f} s left" if left_s > 0 else ""
        self._print(f"{number}{outcome(planned, measured)} ({now - self._began:.1f} s{left})")

    def close(self) -> None:
        """Nothing to give back."""

    def _say_when_stuck(self, now: Now) -> None:
        if now.stuck and not self._was_stuck:
            self._print(f"seems stuck: {now.stuck}")
        self._was_stuck = bool(now.stuck)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bar(Lines):
    """A bar with the run under way: pages a second now, p99 and faults by kind so far, time left. Drawn with each look and not
    between them: while a run is measured the driver keeps still."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        super().__init__(total, console)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
        )
        self._task: TaskID = self._bar.add_task("starting", total=total)
        self._bar.start()

    def begin(self, planned: PlannedRun) -> None:
        """The bar names the run."""
        super().begin(planned)
        self._title = title(planned)
        self._draw(self._done, "")

    def look(self, look: dict[str, Any]) -> None:
        """The bar moves with the run's accesses."""
        now = self._pace.take(look)
        self._say_when_stuck(now)
        self._draw(self._done + now.done, "seems stuck" if now.stuck else in_figures(now))

    def end(self, planned: PlannedRun, measured: Measured) -> None:
        """A line above the bar only for what did not go well."""
        self._done += 1
        self._draw(self._done, "")
        if measured.status != "ok" or measured.row.get("distrust"):
            self._print(outcome(planned, measured))

    def close(self) -> None:
        """Give the terminal back."""
        self._bar.stop()

    def _draw(self, completed: float, now: str) -> None:
        self._bar.update(self._task, completed=completed, description=f"{self._title}\n{now}", refresh=True)


def stderr() -> Console:
    """Where people look; stdout is for results."""
    return Console(file=sys.stderr)


def for_people(total: int) -> Lines:
    """A bar where there is a terminal and the total is known, lines elsewhere."""
    console = stderr()
    return Bar(total, console) if total and console.is_terminal else Lines(total, console)


def title(planned: PlannedRun) -> str:
    """A run in a few words."""
    spec = planned.spec
    guests = f"guests={len(planned.guests)} " if len(planned.guests) > 1 else ""
    return f"{spec.strategy.name} {planned.fault_mix_name} {spec.memory.type} {guests}vcpus={spec.vcpus} repeat={spec.repeat}"


def outcome(planned: PlannedRun, measured: Measured) -> str:
    """How a run ended, and what speaks against it."""
    why = f": {measured.reason}" if measured.reason else ""
    distrust = measured.row.get("distrust")
    return f"{title(planned)}: {measured.status}{why}" + (f", not to be trusted: {distrust}" if distrust else "")


def in_figures(now: Now) -> str:
    """A look in a few figures."""
    figures = [f"{now.pages_per_s / 1000:.1f} kpages/s"]
    if now.latency_p99_ns is not None:
        figures.append(f"p99 {now.latency_p99_ns / 1000:.0f} us")
    return "  ".join([*figures, *(f"{kind} {count}" for kind, count in now.faults_by_kind.items())])
