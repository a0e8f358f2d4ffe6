"""Faults of the page server made on purpose: what of them makes no sense is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from loadgen.config.validate import validate
from loadgen.errors import ConfigError
from loadgen.host.probe import Host

REFUSED = {
    ("page_server.drop_events_share=2",): "page_server.drop_events_share=2 is too large: use at most 1",
    ("page_server.vanish_after_events=1", "strategy=no_slow_gup"): "page_server.vanish_after_events closes the last userfaultfd, "
    "and under strategy no_slow_gup the VMM process works with its own: use strategy=uffd_wait",
    ("page_server.vanish_after_events=1", "page_server.readers_per_uffd=2"): "page_server.vanish_after_events closes what other "
    "readers of the same userfaultfd are using: use page_server.readers_per_uffd=1",
    ("page_server.contents_bit=false", "memory=anon", "fault_mix=absent"): "page_server.contents_bit=false is about pages filled "
    "in place, and anonymous memory has none: use memory=shmem",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_a_fault_that_cannot_be_made_is_refused(
    overrides: tuple[str, ...], configure: Callable[..., DictConfig], host: Host
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(configure("sweep_id=s", *overrides), host)
    assert caught.value.problems == (REFUSED[overrides],)
