"""Measurements of others that ours are printed beside."""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = (
    "linux-mm and kvm lists, December 2022 to January 2023, 'Improving userfaultfd scalability for live migration': a 256-core "
    "x86 host, one userfaultfd, as many readers as vCPUs, 64 MiB a vCPU, shmem, minor faults"
)
MIB_PER_VCPU = 64


@dataclass(frozen=True)
class PagingRate:
    """Thousand pages/s: vCPUs that wait in userfaultfd, and vCPUs that exit to user space and resolve by themselves."""

    wait_kpages_per_s: int
    exit_kpages_per_s: int

    @property
    def exit_to_wait(self) -> float:
        """How many times faster exiting was."""
        return self.exit_kpages_per_s / self.wait_kpages_per_s


PAGING_RATE = {
    1: PagingRate(150, 340),
    2: PagingRate(191, 477),
    4: PagingRate(210, 809),
    8: PagingRate(155, 1239),
    16: PagingRate(130, 1595),
    32: PagingRate(108, 2299),
    64: PagingRate(86, 3482),
    128: PagingRate(62, 4134),
    256: PagingRate(36, 4012),
}
"""By vCPUs; from SOURCE."""
