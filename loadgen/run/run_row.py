"""A run row's description of the run: the whole configuration and the whole environment, by the data set's column names."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from loadgen.cluster.nodes import Node
from loadgen.host.probe import host_columns
from loadgen.plan.plan import PlannedRun
from workers.disturb_spec import DisturbSpec
from workers.registry import engine_entry, strategy_entry
from workers.spec import AccessSpec, PageServerSpec, PrefetchSpec, SourceSpec


def _in_words(entry: Mapping[str, Any], options: Mapping[str, int]) -> str:
    """The options of a native registry's entry as they are asked for, as JSON: a choice by its name."""
    choices = {option["name"]: option["choices"] for option in entry["options"]}
    return json.dumps({name: choices[name][value] if choices[name] else value for name, value in options.items()}, sort_keys=True)


def describe(planned: PlannedRun) -> dict[str, Any]:
    """The configuration columns."""
    spec = planned.spec
    return {
        "repeat": spec.repeat,
        "engine": spec.engine,
        "engine_options": _in_words(engine_entry(spec.engine), spec.engine_options),
        "strategy": spec.strategy.name,
        "strategy_options": _in_words(strategy_entry(spec.strategy.name), spec.strategy.options),
        "fault_mix": planned.fault_mix_name,
        "memory_type": spec.memory.type,
        "page_bytes": spec.memory.page_bytes,
        "pages": spec.memory.pages,
        "transparent_huge_pages": spec.memory.transparent_huge_pages,
        "memory_regions": spec.memory.regions,
        "numa": spec.memory.numa,
        "cluster": planned.cluster,
        "exclusive": planned.exclusive,
        "guests": len(planned.guests),
        "vcpus": spec.vcpus,
        "vcpus_per_vmm": spec.vcpus_per_vmm,
        "uffds_per_vmm": spec.uffds_per_vmm,
        "cores": spec.cores,
        "readers": len(spec.placement.reader_cpus),
        **_page_server(spec.page_server),
        "source": spec.source.name,
        "source_contents": spec.source.contents if spec.source.name == "file" else None,
        "source_cache": spec.source.cache if spec.source.name == "file" else None,
        **_remote(spec.source),
        "prefetch": spec.prefetch.name,
        **_prefetch(spec.prefetch),
        **_access(spec.access),
        "measure_s": spec.measure_s,
        "rounds_limit": spec.rounds_limit,
        "one_round": spec.one_round or None,
        "poisoned_at": spec.fault_mix.poisoned_at if spec.fault_mix.poisoned > 0 else None,
        "on_memory_error": spec.on_memory_error,
        "recover": spec.recover,
        "swap": spec.swap.kind,
        "swap_bytes": spec.swap.size_bytes,
        **describe_disturb(spec.disturb, spec.vmms),
        "placement": spec.placement.policy,
        "vcpu_cpus": _cpu_text(spec.placement.vcpu_cpus),
        "reader_cpus": _cpu_text(spec.placement.reader_cpus),
        "verify": spec.verify,
        "sample_every": spec.sample_every,
        "watchdog_s": spec.watchdog_s,
        "seed": spec.seed,
        "plan_key": planned.plan_key,
        "config_json": planned.config_json,
        "command": planned.command,
        "job_overrides": planned.job_overrides,
    }


def _page_server(asked: PageServerSpec) -> dict[str, Any]:
    """Of our page server its readers, of an external handler how it is reached."""
    external = asked.external
    if external is not None:
        return {
            "page_server": "external",
            "handler": external.command or external.socket,
            "handler_shared": external.shared,
            "handler_message": external.message,
        }
    keys = ("readers_per_uffd", "wait", "events_per_read", "wake_first", "delay_us", "delay_distribution")
    return {"page_server": "own", **{key: getattr(asked, key) for key in keys}, **asdict(asked.inject)}


def _access(access: AccessSpec) -> dict[str, Any]:
    return {
        "access_order": access.order,
        "arrivals": access.arrivals if access.rate_per_s > 0 else None,
        **_trace(access),
        "overlap": access.overlap,
        "read_share": access.read_share,
        "passes": access.passes,
        "accesses_per_pass": access.accesses,
        "stride_pages": access.stride_pages,
        "zipf_exponent": access.zipf_exponent,
        "think_ns": access.think_ns,
        "rate_per_s": access.rate_per_s,
        "hold_ns": access.hold_ns,
    }


def _trace(access: AccessSpec) -> dict[str, Any]:
    """What only the replay of a trace has."""
    if access.order != "trace":
        return {}
    recorded, vcpus = access.recorded, max(access.recorded.vcpu, default=-1) + 1
    speed = access.speed if recorded.due_ns else 0.0
    return {"trace_speed": speed, "trace_vcpus": vcpus or None, "trace_accesses": len(access.trace)}


def describe_disturb(spec: DisturbSpec, vmms: int) -> dict[str, Any]:
    """The configuration columns of the disturbances; what is off is 0 or null."""
    balloon, devices = spec.balloon, spec.devices
    is_on = spec.drops
    return {
        "disturb": "+".join(spec.active) or "none",
        "balloon_per_s": balloon.rate_per_s,
        "balloon_method": balloon.method if is_on else None,
        "track_removes": balloon.track_removes if is_on else None,
        "balloon_stage2": balloon.stage2 if is_on else None,
        "migrator_per_s": spec.migrator.rate_per_s,
        "mmap_writers": spec.mmap_writers.threads,
        "mmap_writer_per_s": vmms * spec.mmap_writers.threads * spec.mmap_writers.rate_per_s,
        "devices": devices.threads,
        "device_per_s": vmms * devices.threads * devices.rate_per_s,
        "device_mapping": devices.device_mapping if devices.threads else None,
    }


def _remote(source: SourceSpec) -> dict[str, Any]:
    """What only a remote source has."""
    if source.name != "remote":
        return {}
    return {
        "source_address": source.address,
        "source_rtt_us": source.rtt_us,
        "source_connections": source.connections,
        "source_push": source.push,
        "source_batch_pages": source.batch_pages,
        "source_push_mib_per_s": source.push_mib_per_s,
    }


def _prefetch(prefetch: PrefetchSpec) -> dict[str, Any]:
    """What only a background stream has."""
    if prefetch.name == "none":
        return {}
    return {"prefetch_batch_pages": prefetch.batch_pages, "prefetch_mib_per_s": prefetch.mib_per_s}


def environment(nodes: Sequence[Node]) -> dict[str, Any]:
    """The machine and software columns; `nodes`: the host of each guest. Sizes are those of the first guest's."""
    return host_columns(nodes[0].host) | {
        "host": _each(node.name for node in nodes),
        "guest_hosts": ",".join(node.name for node in nodes),
        "kernel": _each(node.host.kernel for node in nodes),
        "cpu_model": _each(node.host.cpu_model for node in nodes),
        "commit": commit(),
    }


def _each(texts: Iterable[str]) -> str:
    """What the hosts are, each once."""
    return ", ".join(sorted(set(texts)))


@cache
def commit() -> str | None:
    """The commit of the checkout the package runs from, with `+` when it was edited since; None without a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        edited = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if edited.stdout else "")


def _cpu_text(cpus: tuple[tuple[int, ...], ...]) -> str:
    return ";".join(",".join(map(str, one)) for one in cpus)
