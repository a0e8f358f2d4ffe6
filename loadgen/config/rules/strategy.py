"""Which strategy and engine go with which memory, fault mix and host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.host.probe import Host
from loadgen.plan.legality import judge, memory_type_of, refuse_engine
from loadgen.plan.plan import MIB
from loadgen.plan.specs import native_options
from workers import _native
from workers.registry import engine_entries, strategy_entries
from workers.spec import FAULT_KINDS, MemorySpec


def problems(values: dict[str, Any], host: Host) -> Iterator[str]:
    """Why the strategy, or the engine, cannot run so."""
    entry = strategy_entries()[values["strategy"]["name"]]
    memory_type = memory_type_of(entry, values["memory"]["type"])
    if memory_type == "file":
        yield from _own_mapping(values)
    reasons = dict.fromkeys(judge(entry, memory_type, kind, host).reason for kind in FAULT_KINDS if values["fault_mix"][kind] > 0)
    yield from (reason for reason in reasons if reason)
    engine = engine_entries()[values["engine"]["name"]]
    exit_kind = _native.exit_kind(entry["name"], native_options(entry, values["strategy"]))
    yield from refuse_engine(engine, exit_kind, values["vcpus_per_vmm"], values["memory"]["region_mib"] * MIB, host)


def _own_mapping(values: dict[str, Any]) -> Iterator[str]:
    name, memory_type = values["strategy"]["name"], values["memory"]["type"]
    if values["source"]["name"] != "file":
        yield f"strategy {name} maps a snapshot file: use source=file"
    if memory_type != MemorySpec.DEFAULT_TYPE:
        yield (
            f"strategy {name} has a mapping of its own, of the snapshot file, and does not read memory.type={memory_type}: "
            f"leave memory={MemorySpec.DEFAULT_TYPE}"
        )
