"""What the host must have for a test is set up here and put back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

NR_HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
RESERVED = 32


@pytest.fixture(scope="session")
def huge_pages() -> Iterator[int]:
    """`RESERVED` huge pages of 2 MiB; as many as before afterwards."""
    before = NR_HUGE_PAGES.read_text()
    if not os.access(NR_HUGE_PAGES, os.W_OK):
        pytest.skip(f"{RESERVED} huge pages cannot be reserved: run as root, or `sysctl vm.nr_hugepages={RESERVED}`")
    NR_HUGE_PAGES.write_text(str(int(before) + RESERVED))
    try:
        assert int(NR_HUGE_PAGES.read_text()) >= RESERVED, "the kernel could not find the huge pages"
        yield RESERVED
    finally:
        NR_HUGE_PAGES.write_text(before)
