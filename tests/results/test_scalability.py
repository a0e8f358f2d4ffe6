"""The scalability law against rates made by it, and against the rates that the problem is known for."""

from __future__ import annotations

import numpy as np
import pytest

from results.statistics.intervals import coverage
from results.statistics.scalability import fit, rate

NUMBERS = (1, 2, 4, 8, 16, 32)
PUBLISHED = {1: 150, 2: 191, 4: 210, 8: 155, 16: 130, 32: 108, 64: 86, 128: 62, 256: 36}
"""Thousand pages/s of waiting in one userfaultfd, by number of vCPUs, as published in 2022."""


def made(contention: float, coherence: float, noise: float = 0.0, repeats: int = 5, seed: int = 7) -> dict[float, list[float]]:
    rng = np.random.default_rng(seed)
    return {
        n: [float(rate(np.array([n]), 150.0, contention, coherence)[0] * rng.lognormal(0, noise)) for _ in range(repeats)]
        for n in NUMBERS
    }


@pytest.mark.parametrize(("contention", "coherence"), [(0.0, 0.0), (0.2, 0.0), (0.05, 0.002), (0.6, 0.03)])
def test_rates_made_by_the_law_give_its_terms_back(contention: float, coherence: float) -> None:
    law = fit(made(contention, coherence))
    assert law is not None
    assert (law.one.value, law.contention.value, law.coherence.value) == pytest.approx((150.0, contention, coherence), abs=1e-6)
    assert law.error < 1e-6
    expected = rate(np.array([64.0, 256.0]), 150.0, contention, coherence)
    assert [law.predictions[n].value for n in (64, 256)] == pytest.approx(list(expected), rel=1e-4)


def test_the_true_terms_lie_in_the_intervals_as_often_as_they_say() -> None:
    laws = [fit(made(0.05, 0.002, noise=0.05, repeats=6, seed=seed)) for seed in range(150)]
    for term, true in (("one", 150.0), ("contention", 0.05), ("coherence", 0.002)):
        found = [getattr(law, term) for law in laws]
        assert {one.coverage for one in found} == {coverage(6)}
        held = sum(one.includes(true) for one in found) / len(found)
        assert held > coverage(6) - 0.05, term  # 150 tries of 97 % give less than 92 % once in a thousand times


def test_a_band_is_around_the_median_of_the_curves_of_the_repeats() -> None:
    law = fit(made(0.05, 0.002, noise=0.05))
    assert law is not None and law.peak is not None and 10 < law.peak < 40
    low, high = law.band(np.array([64.0]))
    assert low[0] < law.predictions[64].value < high[0]
    assert law.predictions[64].value == law.rate(np.array([64.0]))[0]
    curves = sorted(float(rate(np.array([64.0]), *terms)[0]) for terms in law.fits)
    assert (low[0], high[0]) == (curves[0], curves[-1])


def test_what_was_measured_is_no_prediction() -> None:
    law = fit({n: [float(value)] for n, value in PUBLISHED.items()})
    assert law is not None and law.predictions == {}
    assert law.one.low is None  # one repeat says nothing of its spread


def test_the_collapse_of_one_userfaultfd_is_seen_from_its_first_six_points() -> None:
    law = fit({n: [float(value)] for n, value in PUBLISHED.items() if n <= 32})
    assert law is not None and law.peak is not None and law.peak < 8
    assert law.predictions[64].value == pytest.approx(PUBLISHED[64], rel=0.4)
    assert law.predictions[256].value < PUBLISHED[64]


def test_three_points_are_no_law() -> None:
    assert fit({n: [100.0 * n] for n in (1, 2, 4)}) is None
    assert fit({}) is None
