"""Disturbances beside the vCPUs of a run: frozen, picklable, free of Hydra, as in `workers.spec`.

Every disturbance has a rate asked for; a rate or a number of threads of 0 means that it is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("balloon", "migrator", "mmap_writer", "device")
"""Of the threads of disturbances, in the order of the columns."""


@dataclass(frozen=True)
class BalloonSpec:
    """Drops `rate_per_s` resolved pages of the guest, by MADV_DONTNEED, MADV_REMOVE or a punched hole.

    `track_removes`: the VMM gets a remove event for each drop (UFFD_FEATURE_EVENT_REMOVE), for methods that have one. `stage2`:
    whether the emulated stage-2 entry of a dropped page is removed, as by KVM's MMU notifier, or stays.
    """

    rate_per_s: float
    method: str
    track_removes: bool
    stage2: str

    @property
    def tracks(self) -> bool:
        """Whether the userfaultfds report removed pages."""
        return self.rate_per_s > 0 and self.track_removes


@dataclass(frozen=True)
class MigratorSpec:
    """Makes the kernel move `rate_per_s` guest pages to other frames; fragments `fragment_mib` MiB before each compaction."""

    rate_per_s: float
    fragment_mib: int


@dataclass(frozen=True)
class MmapWritersSpec:
    """`threads` in each VMM process, each of which maps and unmaps `map_kib` `rate_per_s` times (0: without a limit)."""

    threads: int
    rate_per_s: float
    map_kib: int


@dataclass(frozen=True)
class DevicesSpec:
    """`threads` in each VMM process, each of which accesses a page by system call `rate_per_s` times (0: without a limit).

    `device_mapping`: through the vCPUs' mapping, or a `second` one of the same memory with a userfaultfd in sleeping mode.
    """

    threads: int
    rate_per_s: float
    device_mapping: str


@dataclass(frozen=True)
class DisturbSpec:
    """The disturbances of a guest."""

    balloon: BalloonSpec
    migrator: MigratorSpec
    mmap_writers: MmapWritersSpec
    devices: DevicesSpec

    @classmethod
    def of(cls, values: Mapping[str, Mapping[str, Any]]) -> DisturbSpec:
        """From the configuration group `disturb`, resolved and validated."""
        return cls(
            BalloonSpec(**values["balloon"]),
            MigratorSpec(**values["migrator"]),
            MmapWritersSpec(**values["mmap_writers"]),
            DevicesSpec(**values["devices"]),
        )

    @property
    def drops(self) -> bool:
        """Whether resolved pages may be dropped."""
        return self.balloon.rate_per_s > 0

    @property
    def second_mapping(self) -> bool:
        """Whether each VMM process maps the guest once more, for its devices."""
        return self.devices.threads > 0 and self.devices.device_mapping == "second"

    @property
    def active(self) -> tuple[str, ...]:
        """Names of those that are on, as in the configuration."""
        on = {
            "balloon": self.balloon.rate_per_s > 0,
            "migrator": self.migrator.rate_per_s > 0,
            "mmap_writers": self.mmap_writers.threads > 0,
            "devices": self.devices.threads > 0,
        }
        return tuple(name for name, is_on in on.items() if is_on)

    def native(self, vmms: int) -> dict[str, Any]:
        """The configuration of the native core of one of `vmms` VMM processes. The balloon's rate is divided over them."""
        balloon, writers, devices = self.balloon, self.mmap_writers, self.devices
        return {
            "balloon": {
                "rate_per_s": balloon.rate_per_s / vmms,
                "method": balloon.method,
                "track_removes": balloon.tracks,
                "stale_stage2": balloon.stage2 == "stale",
            },
            "migrator": {"rate_per_s": self.migrator.rate_per_s, "fragment_mib": self.migrator.fragment_mib},
            "mmap_writers": {
                "threads": writers.threads,
                "rate_per_s": writers.threads * writers.rate_per_s,
                "map_kib": writers.map_kib,
            },
            "devices": {
                "threads": devices.threads,
                "rate_per_s": devices.threads * devices.rate_per_s,
                "second_mapping": self.second_mapping,
            },
        }
