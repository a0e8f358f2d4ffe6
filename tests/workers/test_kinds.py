from __future__ import annotations

import numpy as np

from workers import _native
from workers.kinds import page_kinds
from workers.spec import FAULT_KINDS, FaultMixSpec


def test_shares_are_kept_to_the_page_and_the_order_is_the_seeds() -> None:
    mix = FaultMixSpec(hit=0.2, minor=0.5, absent=0.3)
    kinds = page_kinds(mix, 1001, seed=5)
    assert np.bincount(kinds).tolist() == [200, 501, 300]
    assert (page_kinds(mix, 1001, seed=5) == kinds).all()
    assert (page_kinds(mix, 1001, seed=6) != kinds).any()


def test_codes_of_kinds_are_the_native_cores() -> None:
    assert _native.KINDS == FAULT_KINDS
