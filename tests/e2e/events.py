"""The events of a driver that the fixture `start` has started, read while it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.wait import wait_for

Event = dict[str, Any]


def file_in(folder: Path) -> Path:
    """Where they are."""
    return folder / "events.jsonl"


def so_far(folder: Path, kind: str) -> list[Event]:
    """Those of a kind."""
    return of_kind(file_in(folder).read_text(), kind)


def of_kind(text: str, kind: str) -> list[Event]:
    """Those of a kind among what `--json` printed, without a line that is not whole."""
    whole, _, _ = text.rpartition("\n")
    return [event for event in map(json.loads, whole.splitlines()) if event["event"] == kind]


def measured_phase(folder: Path) -> None:
    """Wait until accesses are done in the measured phase of the first run."""
    wait_for(lambda: any(event["done"] for event in so_far(folder, "look")), "accesses of a run", 100)


def first_run_stored(folder: Path, seconds: float) -> Event:
    """Wait until the first run has ended and is stored."""
    return wait_for(lambda: so_far(folder, "run_ended"), "the first run's end", seconds)[0]
