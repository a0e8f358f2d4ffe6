"""The rows that a command has stored in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from results.store.dataset import DataSet


def of_every_run(folder: Path, table: str) -> list[dict[str, Any]]:
    """A whole table."""
    found: list[dict[str, Any]] = DataSet.existing(str(folder / "outputs/dataset")).read(table).to_pylist()
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    """The runs, in the order they were made in."""
    return sorted(of_every_run(folder, "runs"), key=lambda row: (row["repeat"], row["run_id"]))
