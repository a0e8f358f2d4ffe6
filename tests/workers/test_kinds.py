from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import specs
from workers import _native
from workers.kinds import page_kinds
from workers.spec import FAULT_KINDS


def test_shares_are_kept_to_the_page_and_the_order_is_the_seeds() -> None:
    mix = specs.fault_mix(hit=0.2, minor=0.5, absent=0.3)
    kinds = page_kinds(mix, 1001, seed=5)
    assert np.bincount(kinds).tolist() == [200, 501, 300]
    assert (page_kinds(mix, 1001, seed=5) == kinds).all()
    assert (page_kinds(mix, 1001, seed=6) != kinds).any()


def test_codes_of_kinds_are_the_native_cores() -> None:
    assert _native.KINDS == FAULT_KINDS


@pytest.mark.parametrize("share", [0.333333, 0.3333335])
def test_thirds_that_do_not_quite_sum_to_1_still_give_every_page_of_4_gib_a_kind(share: float) -> None:
    kinds = page_kinds(specs.fault_mix(hit=share, minor=share, absent=share), 1 << 20, seed=1)
    assert sorted(np.bincount(kinds).tolist()) == [349_525, 349_525, 349_526]


@settings(max_examples=500, deadline=None)
@given(st.tuples(*[st.integers(0, 1000)] * 3).filter(any), st.floats(1 - 1e-6, 1 + 1e-6), st.integers(1, 100_000))
def test_every_page_has_a_kind_and_no_kind_is_off_by_a_page(parts: tuple[int, ...], error: float, pages: int) -> None:
    exact = [part / sum(parts) * pages for part in parts]
    shares = {kind: part / sum(parts) * error for kind, part in zip(FAULT_KINDS, parts, strict=False)}
    kinds = page_kinds(specs.fault_mix(**shares), pages, seed=0)
    counts = np.bincount(kinds, minlength=3).tolist()
    assert sum(counts) == pages
    for count, share in zip(counts, exact, strict=True):
        assert abs(count - share) < 1 + 1e-6
        assert count == 0 or share > 0
