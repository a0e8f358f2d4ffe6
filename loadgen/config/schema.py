"""The typed configuration: every key with its unit in its name, so that a typo fails with Hydra's own words.

Strategies and engines are not listed here: each entry of the native registries becomes a choice of its group, with its options
as typed keys, so a new native file is all that a new strategy needs. The YAML files beside them are presets.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from workers.registry import engine_entries, strategy_entries

SET_BY_THE_DRIVER = ("repeat", "sweep_id", "command", "job_overrides")


def listed(schema: type) -> type:
    """`schema` under a name that lists its keys: OmegaConf's error for an unknown key quotes the name and nothing else."""
    keys = ", ".join(one.name for one in fields(schema) if one.name not in SET_BY_THE_DRIVER)
    schema.__name__ = f"{schema.__name__} (keys: {keys})"
    return schema


@listed
@dataclass
class MemoryConfig:
    type: str = MISSING
    region_mib: int = 64
    page_bytes: int = 4096
    transparent_huge_pages: bool = False


@listed
@dataclass
class FaultMixConfig:
    name: str = MISSING
    hit: float = 0.0
    minor: float = 0.0
    absent: float = 0.0
    swapped: float = 0.0
    poisoned: float = 0.0
    poisoned_at: str = "source"
    rest: str = "none"


@listed
@dataclass
class SwapConfig:
    """`mib` 0: as much as the swapped pages of the fault mix need. `folder`: where a swap file goes."""

    name: str = MISSING
    mib: int = 0
    folder: str = "/var/tmp"


@listed
@dataclass
class BalloonConfig:
    rate_per_s: float = 0.0
    method: str = "dontneed"
    track_removes: bool = True
    stage2: str = "dropped"


@listed
@dataclass
class MigratorConfig:
    rate_per_s: float = 0.0
    fragment_mib: int = 64


@listed
@dataclass
class MmapWritersConfig:
    threads: int = 0
    rate_per_s: float = 0.0
    map_kib: int = 2048


@listed
@dataclass
class DevicesConfig:
    threads: int = 0
    rate_per_s: float = 0.0
    device_mapping: str = "same"


@listed
@dataclass
class DisturbConfig:
    balloon: BalloonConfig = field(default_factory=BalloonConfig)
    migrator: MigratorConfig = field(default_factory=MigratorConfig)
    mmap_writers: MmapWritersConfig = field(default_factory=MmapWritersConfig)
    devices: DevicesConfig = field(default_factory=DevicesConfig)


@listed
@dataclass
class AccessConfig:
    order: str = MISSING
    overlap: bool = False
    read_share: float = 1.0
    passes: int = 1
    accesses: int = 0
    stride_pages: int = 1
    zipf_exponent: float = 1.1
    trace_file: str = ""
    think_us: float = 0.0
    rate_per_s: float = 0.0
    hold_s: float = 0.0


@listed
@dataclass
class PlacementConfig:
    policy: str = MISSING
    vcpu_cpus: list[int] = field(default_factory=list)
    reader_cpus: list[int] = field(default_factory=list)


@listed
@dataclass
class PageServerConfig:
    wait: str = MISSING
    readers_per_uffd: int = 1
    events_per_read: int = 16
    delay_us: float = 0.0
    delay_distribution: str = "fixed"
    allow_uids: list[int] = field(default_factory=list)
    handshake_timeout_s: float = 10.0
    drop_events_share: float = 0.0
    wake_every_ms: float = 0.0
    contents_bit: bool = True
    fill_pause_us: float = 0.0
    vanish_after_events: int = 0


@listed
@dataclass
class SourceConfig:
    name: str = MISSING
    file: str = ""
    cache: str = "warm"
    address: str = ""
    rtt_us: float = 0.0
    connections: int = 1
    push: bool = False
    batch_pages: int = 16
    push_mib_per_s: float = 0.0
    timeout_s: float = 2.0
    retries: int = 3


@listed
@dataclass
class PrefetchConfig:
    name: str = MISSING
    working_set_file: str = ""
    batch_pages: int = 16
    mib_per_s: float = 0.0


@listed
@dataclass
class ClusterConfig:
    name: str = "local"
    address: str = ""
    leave_out: list[str] = field(default_factory=list)
    exclusive: bool = True
    deadman_s: float = 30.0


@listed
@dataclass
class Config:
    """A run. SET_BY_THE_DRIVER are nobody's to set; `cores` 0 means every CPU this process may use; `question` is the one that
    the sweep is to answer with a table of its own, none when empty."""

    engine: Any = MISSING
    strategy: Any = MISSING
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    swap: SwapConfig = field(default_factory=SwapConfig)
    fault_mix: FaultMixConfig = field(default_factory=FaultMixConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    disturb: DisturbConfig = field(default_factory=DisturbConfig)
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    page_server: PageServerConfig = field(default_factory=PageServerConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    prefetch: PrefetchConfig = field(default_factory=PrefetchConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    guests: int = 1
    vcpus: int = 1
    vcpus_per_vmm: int = 1
    uffds_per_vmm: int = 1
    cores: int = 0
    repeats: int = 1
    seed: int = 1
    verify: str = "word"
    on_memory_error: str = "inject"
    watchdog_s: float = 10.0
    faults_limit: int = 4_000_000
    count_mmap_lock: bool = False
    dataset: str = "outputs/dataset"
    question: str = ""
    dry_run: bool = False
    resume: bool = False
    recover: bool = False
    quiet: bool = False
    json: bool = False
    repeat: int = 0
    sweep_id: str = ""
    command: str = ""
    job_overrides: str = ""


def _option_key(option: dict[str, Any]) -> tuple[str, type, Any]:
    """A strategy's or engine's option as a typed key: one of its choices by name, or a number."""
    name, choices, initial = option["name"], option["choices"], option["default"]
    return (name, str, field(default=choices[initial])) if choices else (name, int, field(default=initial))


def register() -> None:
    """Put the schema, the registry's strategies and the choice of sweeper into Hydra's store."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, entries in (("strategy", strategy_entries()), ("engine", engine_entries())):
        for name, entry in entries.items():
            keys: list[Any] = [("name", str, field(default=name))]
            keys += [_option_key(option) for option in entry["options"]]
            store.store(group=group, name=name, node=listed(make_dataclass(f"{group.capitalize()}_{name}", keys)))
    store.store(
        group="hydra/sweeper",
        name="loadgen",
        node={"_target_": "hydra_plugins.uffd_loadgen.LoadgenSweeper", "max_batch_size": None, "params": None, "also": []},
        provider="loadgen",
    )
