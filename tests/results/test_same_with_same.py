"""A made-up configuration compared with itself: `compare` decides wrongly no more often than it prints, whatever the spread.

`make soak` draws from real runs instead.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.results.rows import run_row
from tests.soak.test_same_with_same import MOST, decided_wrongly


@pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])
@pytest.mark.parametrize("repeats", [6, 9])
def test_runs_without_a_difference_are_rarely_named_different(repeats: int, paired: bool) -> None:
    rng = np.random.default_rng(11)
    spreads = (
        rng.normal(1e6, 3e4, 40),
        rng.lognormal(13, 0.8, 40),
        np.where(rng.random(40) < 0.5, 4e5, 9e5) * rng.lognormal(0, 0.02, 40),
    )
    pools = [
        [run_row(pages_per_s=float(rate), sweep_id="s", run_id=f"r{number}") for number, rate in enumerate(rates)]
        for rates in spreads
    ]
    assert decided_wrongly(pools, repeats, paired=paired) <= MOST
