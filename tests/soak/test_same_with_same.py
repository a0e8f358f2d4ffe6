"""A configuration compared with itself: how often `compare` decides that it differs, against what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.statistics.comparison import Side, compare
from results.statistics.significance import ALPHA
from results.statistics.verdicts import BETTER, WORSE
from results.store.dataset import DataSet
from tests.e2e.command import run

pytestmark = pytest.mark.soak

COMPARISONS = 200
CELLS = 3
MOST = 18
"""Of 200 comparisons that err in 5 % of cases, more than 18 err by chance in 1 % of tries."""


def decided_wrongly(pools: Sequence[Sequence[dict[str, Any]]], repeats: int, *, paired: bool) -> int:
    """How many of COMPARISONS name some cell better or worse: each cell's two sides are drawn from one pool of runs."""
    rng = np.random.default_rng(repeats)
    wrong = 0
    for _ in range(COMPARISONS):
        sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        for cell, pool in enumerate(pools):
            drawn = rng.choice(len(pool), 2 * repeats, replace=False)
            for place, number in enumerate(drawn):
                fields = {"repeat": place // 2, "vcpus": cell + 1, "delay_us": float(place % 2), "config_json": None}
                sides[place % 2].append({**pool[number], **fields})
        found = compare(
            Side("A", sides[0]),
            Side("B", sides[1]),
            "pages_per_s",
            by="delay_us" if paired else None,
            across=() if paired else ("delay_us",),
        )
        wrong += any(cell.verdict in (BETTER, WORSE) for cell in found.cells)
    return wrong


def test_two_hundred_comparisons_of_a_configuration_with_itself_err_no_more_often_than_printed(tmp_path: Path) -> None:
    """The runs are real, of three configurations; each comparison draws both of its sides from the runs of one."""
    done = run(
        tmp_path,
        "loadgen",
        "-m",
        "strategy=uffd_wait,no_uffd_wait,no_slow_gup",
        "vcpus=2",
        "repeats=40",
        "memory.region_mib=4",
        "quiet=true",
        timeout_s=1800,
    )
    assert done.returncode == 0, done.stderr
    runs = [row for row in DataSet.existing(str(tmp_path / "outputs/dataset")).runs() if row["status"] == "ok"]
    strategies = sorted({row["strategy"] for row in runs})
    pools = [[{**row, "strategy": "same"} for row in runs if row["strategy"] == name] for name in strategies]
    assert len(pools) == CELLS and min(map(len, pools)) == 40
    for repeats in (6, 9, 15):
        for paired in (True, False):
            wrong = decided_wrongly(pools, repeats, paired=paired)
            assert wrong <= MOST, f"{wrong} of {COMPARISONS} at {repeats} repeats; {ALPHA:.0%} are printed"
