"""Disturbances of a guest in huge pages, on the real kernel and real Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.in_session import Bench, InSession


@pytest.fixture(scope="module")
def session(huge_pages: int) -> Iterator[InSession]:
    with InSession() as session:
        yield session


@pytest.mark.parametrize("method", ["dontneed", "remove", "punch"])
@pytest.mark.parametrize("track_removes", ["true", "false"])
def test_a_balloon_takes_huge_pages_as_it_takes_small_ones(
    method: str, track_removes: str, bench: Bench, huge_pages: int
) -> None:
    tracked = track_removes == "true" and method != "punch"  # no event announces a punched hole
    guest = (f"memory.region_mib={huge_pages}", "vcpus=2", "access=uniform", "access.accesses=1000", "access.rate_per_s=2000")
    balloon = (
        f"disturb.balloon.method={method}",
        f"disturb.balloon.track_removes={track_removes}",
        "disturb.balloon.rate_per_s=200",
    )
    for strategy in ("uffd_wait", "no_slow_gup", "no_uffd_wait"):
        row = bench.run("memory=hugetlb", "disturb=balloon", f"strategy={strategy}", *guest, *balloon)
        assert row["status"] == "ok", row["reason"]
        assert (row["wrong_words"], row["memory_errors"]) == (0, 0)
        assert row["pages_resolved"] == huge_pages // 2 and row["pages_dropped"] > 0
        assert row["removes"] == (row["pages_dropped"] if tracked else 0)
        waits = row["populate_waits"]
        if strategy != "no_slow_gup":
            assert waits == 0
        elif tracked:  # a page may be resolved between its remove event and its removal, of which there is no second event
            assert waits * 100 <= row["pages_dropped"] + 200
        else:
            assert waits > 0, "asleep in its own populate"
        if method != "dontneed":
            assert row["contents_lost"] > 0, "a hole has no contents: they are made again"
