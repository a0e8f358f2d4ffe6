"""The bench's peer is built from the kernel's source, which is as large as everything else the tests install."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import needs
from tests.bench.peer import HOW_TO_GET_IT, PeerShape, build, counter, newest_source, rate_of

pytestmark = pytest.mark.soak
SOURCE = newest_source()


@needs.KVM
@pytest.mark.skipif(SOURCE is None, reason=f"no kernel source: {HOW_TO_GET_IT}")
def test_the_peer_is_built_from_debians_kernel_source_and_what_it_resolves_is_counted(tmp_path: Path) -> None:
    assert SOURCE is not None
    program, counting = build(SOURCE, tmp_path), counter(tmp_path)
    each = rate_of(program, counting, PeerShape(vcpus=2, mib_per_vcpu=1, single=False))
    assert each.printed == each.resolved > 0
    single = rate_of(program, counting, PeerShape(vcpus=2, mib_per_vcpu=1, single=True))
    assert 0 < single.resolved <= single.printed
