"""A page server is killed while real vCPUs fault: asleep inside KVM_RUN or out of it, they get every page from its successor."""

from __future__ import annotations

import dataclasses

import pytest

from tests import needs
from tests.workers.test_takeover import kill_page_servers, spec_for

pytestmark = needs.KVM


@pytest.mark.parametrize(("strategy", "memory"), [("uffd_wait", "shmem"), ("no_uffd_wait", "shmem"), ("no_uffd_wait", "anon")])
@pytest.mark.parametrize("guest_mode", [0, 1], ids=["user", "kernel"])
def test_real_vcpus_whose_page_server_is_killed_at_random_moments_end_with_every_page_right(
    strategy: str, memory: str, guest_mode: int
) -> None:
    kill_page_servers(dataclasses.replace(spec_for(strategy, memory), engine="kvm", engine_options={"guest_mode": guest_mode}))
