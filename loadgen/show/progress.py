"""What people see while a sweep runs: a bar on a terminal, a line a run elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from loadgen.plan.plan import PlannedRun
from loadgen.run.measured import Measured
from loadgen.run.progress_rate import Now, ProgressRate
from loadgen.show.time_left import TimeLeft, expected_s
from loadgen.show.title import title


class Watcher(Protocol):
    """Follows the runs of a sweep and shows them."""

    def begin(self, planned: PlannedRun) -> None:
        """A run starts."""

    def say(self, text: str) -> None:
        """A line of text before a run starts."""

    def look(self, look: dict[str, Any]) -> None:
        """The status of the current run, at most twice a second."""

    def end(self, planned: PlannedRun, measured: Measured) -> None:
        """A run has ended and is stored."""

    def close(self) -> None:
        """End the display; idempotent."""


class Quiet:
    """Shows nothing."""

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
    """One line a run on stderr, and one when a run seems stuck. `expected`: seconds each run takes as planned; empty when the
    number of runs is unknown (a job of a launcher)."""

    def __init__(self, expected: Sequence[float], console: Console | None = None) -> None:
        self._total, self._done = len(expected), 0
        self._time = TimeLeft(expected)
        self._console = console or stderr()

    def begin(self, planned: PlannedRun) -> None:
        """The run's time starts."""
        self._began = time.monotonic()
        self._progress_rate, self._was_stuck = ProgressRate(planned.spec, len(planned.guests)), False

    def say(self, text: str) -> None:
        """A line."""
        self._print(text)

    def look(self, look: dict[str, Any]) -> None:
        """A line when the run seems stuck and did not before."""
        self._say_when_stuck(self._progress_rate.take(look))

    def end(self, planned: PlannedRun, measured: Measured) -> None:
        """The run's line."""
        took_s = self._count()
        number = f"[{self._done}/{self._total}] " if self._total else ""
        left = f", {self._left()}" if self._done < self._total else ""
        self._print(f"{number}{outcome(planned, measured)} ({took_s:.1f} s{left})")

    def close(self) -> None:
        """Nothing to restore."""

    def _count(self) -> float:
        took_s = time.monotonic() - self._began
        self._done += 1
        self._time.ended(took_s)
        return took_s

    def _left(self, done: float = 0.0) -> str:
        return f"about {self._time.left_s(done):.0f} s left"

    def _say_when_stuck(self, now: Now) -> None:
        if now.stuck and not self._was_stuck:
            self._print(f"seems stuck: {now.stuck}")
        self._was_stuck = bool(now.stuck)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bar(Lines):
    """A bar with the current run: pages a second, p99, faults by kind, time left. It is drawn with each status poll and not in
    between: a redraw would use CPU time while a run is measured."""

    def __init__(self, expected: Sequence[float], console: Console | None = None) -> None:
        super().__init__(expected, console)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=self._console,
            auto_refresh=False,
        )
        self._task: TaskID = self._bar.add_task("starting", total=self._total, left="")
        self._bar.start()

    def begin(self, planned: PlannedRun) -> None:
        """The bar names the run."""
        super().begin(planned)
        self._title = title(planned)
        self._draw(0.0, "")

    def look(self, look: dict[str, Any]) -> None:
        """The bar moves with the run's accesses."""
        now = self._progress_rate.take(look)
        self._say_when_stuck(now)
        self._draw(now.done, "seems stuck" if now.stuck else in_figures(now))

    def end(self, planned: PlannedRun, measured: Measured) -> None:
        """A line above the bar for a run that failed or is flagged."""
        self._count()
        self._draw(0.0, "")
        if measured.status != "ok" or measured.row.get("distrust"):
            self._print(outcome(planned, measured))

    def close(self) -> None:
        """Restore the terminal."""
        self._bar.stop()

    def _draw(self, done: float, now: str) -> None:
        left = self._left(done) if self._done < self._total else ""
        description = f"{self._title}\n{now}"
        self._bar.update(self._task, completed=self._done + done, description=description, left=left, refresh=True)


def stderr() -> Console:
    """The console of progress; stdout is for results."""
    return Console(file=sys.stderr)


def for_people(runs: Sequence[PlannedRun]) -> Lines:
    """A bar on a terminal when the runs are known, lines otherwise."""
    console, expected = stderr(), expected_s(runs)
    return Bar(expected, console) if expected and console.is_terminal else Lines(expected, console)


def outcome(planned: PlannedRun, measured: Measured) -> str:
    """How a run ended, and why it is flagged."""
    why = f": {measured.reason}" if measured.reason else ""
    distrust = measured.row.get("distrust")
    return f"{title(planned)}: {measured.status}{why}" + (f", flagged as noisy: {distrust}" if distrust else "")


def in_figures(now: Now) -> str:
    """A status poll in a few figures."""
    figures = [f"{now.pages_per_s / 1000:.1f} kpages/s"]
    if now.latency_p99_ns is not None:
        figures.append(f"p99 {now.latency_p99_ns / 1000:.0f} us")
    return "  ".join([*figures, *(f"{kind} {count}" for kind, count in now.faults_by_kind.items())])
