"""The one validation: every rule across groups, each refusal with what is wrong, which key, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from loadgen import disturb_rules, prefetch_rules
from loadgen.errors import ConfigError
from loadgen.fault_mix import settle
from loadgen.host import Host
from loadgen.legality import judge, memory_type_of, refuse_engine
from loadgen.placement import POLICIES
from loadgen.plan import MIB, plan_run, read_trace, strategy_options
from loadgen.swap import swap_problems
from results import questions
from workers import _native
from workers.registry import engine_entries, strategy_entries
from workers.source_address import split_address
from workers.spec import (
    ACCESS_ORDERS,
    DELAY_DISTRIBUTIONS,
    FAULT_KINDS,
    MEMORY_TYPES,
    ON_MEMORY_ERROR,
    POISONED_AT,
    PREFETCHES,
    SOURCE_CACHES,
    SOURCES,
    SWAPS,
    VERIFY_LEVELS,
    WAITS,
    MemorySpec,
    SourceSpec,
)

CLUSTERS = ("local", "existing")
MOST_VCPUS = 1 << 16
SHARES_TOLERANCE = 1e-6
SOURCE_KEYS = {
    "file": ("file", "cache"),
    "remote": ("address", "rtt_us", "connections", "push", "batch_pages", "push_mib_per_s"),
}
"""Keys of the group `source` that only one of its choices reads."""


def validate(cfg: DictConfig, host: Host, hosts: int = 1, *, whole: bool = True) -> None:
    """Raises ConfigError with every problem of this configuration on this host, one of `hosts` that share the guests.

    `whole` false: it will run on other hosts, which check themselves; only what is wrong anywhere is looked for.
    """
    try:
        values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError([str(error).splitlines()[0]]) from None
    settle(values["fault_mix"])
    problems = list(_platform(host)) or [
        *_words(values),
        *_numbers(values),
        *_deaths(values),
    ]
    if not problems and not whole:
        problems = [*_source(values), *_cluster(values)]
    elif not problems:
        problems = [*_guest(values, host), *_legality(values, host), *_placement(values, host), *_trace(values), *_source(values)]
        entry = strategy_entries()[values["strategy"]["name"]]
        problems += disturb_rules.problems(values["disturb"], entry, memory_type_of(entry, values["memory"]["type"]), host)
        problems += prefetch_rules.problems(values)
        problems += [*swap_problems(values, host), *_inject(values), *_cluster(values)]
    if not problems and whole:
        problems = [*_memory(cfg, values, host, -(-values["guests"] // hosts))]
    if problems:
        raise ConfigError(problems)


def _platform(host: Host) -> Iterator[str]:
    if host.system != "Linux":
        yield f"userfaultfd is a Linux facility and this is {host.system}: run on Linux 5.14 or later"


def _words(values: dict[str, Any]) -> Iterator[str]:
    for key, value, known in (
        ("strategy.name", values["strategy"]["name"], tuple(strategy_entries())),
        ("engine.name", values["engine"]["name"], tuple(engine_entries())),
        ("memory.type", values["memory"]["type"], MEMORY_TYPES),
        ("access.order", values["access"]["order"], ACCESS_ORDERS),
        ("placement.policy", values["placement"]["policy"], POLICIES),
        ("page_server.wait", values["page_server"]["wait"], WAITS),
        ("page_server.delay_distribution", values["page_server"]["delay_distribution"], DELAY_DISTRIBUTIONS),
        ("source.name", values["source"]["name"], SOURCES),
        ("prefetch.name", values["prefetch"]["name"], PREFETCHES),
        ("source.cache", values["source"]["cache"], SOURCE_CACHES),
        ("swap.name", values["swap"]["name"], SWAPS),
        ("cluster.name", values["cluster"]["name"], CLUSTERS),
        ("fault_mix.rest", values["fault_mix"]["rest"], ("none", *FAULT_KINDS)),
        ("fault_mix.poisoned_at", values["fault_mix"]["poisoned_at"], POISONED_AT),
        ("on_memory_error", values["on_memory_error"], ON_MEMORY_ERROR),
        ("verify", values["verify"], VERIFY_LEVELS),
        ("question", values["question"] or questions.names()[0], questions.names()),
        *disturb_rules.words(values["disturb"]),
        *_choices("strategy", strategy_entries(), values["strategy"]),
        *_choices("engine", engine_entries(), values["engine"]),
    ):
        if value not in known:
            yield f"{key}={value} is unknown: use one of {', '.join(known)}"


def _choices(group: str, entries: dict[str, Any], values: dict[str, Any]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    for option in entries.get(values["name"], {}).get("options", []):
        if option["choices"]:
            yield f"{group}.{option['name']}", values.get(option["name"]), tuple(option["choices"])


LEAST_DEADMAN_S = 4.0
LEAST_RECOVERY_S = 5.0


def _deaths(values: dict[str, Any]) -> Iterator[str]:
    deadman_s, watchdog_s = values["cluster"]["deadman_s"], values["watchdog_s"]
    if 0 < deadman_s < LEAST_DEADMAN_S:
        yield (
            f"cluster.deadman_s={deadman_s:g} is too short for a driver that gives a sign of life twice a second at most: use at "
            f"least {LEAST_DEADMAN_S:g}, or 0 for none"
        )
    if values["recover"] and 0 < watchdog_s < LEAST_RECOVERY_S:
        yield (
            f"recover=true needs some seconds to start another page server and watchdog_s={watchdog_s:g} ends the run before: "
            f"use at least {LEAST_RECOVERY_S:g}, or 0 for none"
        )


def _numbers(values: dict[str, Any]) -> Iterator[str]:
    at_least = {
        "guests": 1,
        "vcpus": 1,
        "vcpus_per_vmm": 1,
        "uffds_per_vmm": 1,
        "cores": 0,
        "repeats": 1,
        "seed": 0,
        "faults_limit": 0,
        "watchdog_s": 0,
        "cluster.deadman_s": 0,
        "memory.region_mib": 1,
        "swap.mib": 0,
        "access.passes": 1,
        "access.accesses": 0,
        "access.stride_pages": 1,
        "access.think_us": 0,
        "access.rate_per_s": 0,
        "access.hold_s": 0,
        "page_server.readers_per_uffd": 1,
        "page_server.events_per_read": 1,
        "page_server.delay_us": 0,
        "page_server.handshake_timeout_s": 0,
        "page_server.drop_events_share": 0,
        "page_server.wake_every_ms": 0,
        "page_server.fill_pause_us": 0,
        "page_server.vanish_after_events": 0,
        "source.rtt_us": 0,
        "source.connections": 1,
        "source.batch_pages": 1,
        "source.push_mib_per_s": 0,
        "source.timeout_s": 0.001,
        "source.retries": 0,
        "prefetch.batch_pages": 1,
        "prefetch.mib_per_s": 0,
        **{f"fault_mix.{kind}": 0 for kind in FAULT_KINDS},
        **disturb_rules.AT_LEAST,
    }
    for key, least in at_least.items():
        value: Any = values
        for part in key.split("."):
            value = value[part]
        if value < least:
            yield f"{key}={value} is too small: use at least {least}"
    for group, key, most in (("source", "connections", 64), ("source", "batch_pages", 512), ("prefetch", "batch_pages", 512)):
        if values[group][key] > most:
            yield f"{group}.{key}={values[group][key]} is too large: use at most {most}"
    if not 0 <= values["access"]["read_share"] <= 1:
        yield f"access.read_share={values['access']['read_share']} is no share: use a number from 0 to 1"
    if values["page_server"]["drop_events_share"] > 1:
        yield f"page_server.drop_events_share={values['page_server']['drop_events_share']} is no share: use a number from 0 to 1"
    if values["access"]["order"] == "none" and values["access"]["hold_s"] == 0:
        yield "access=none touches nothing and would end at once: use a positive access.hold_s"
    if values["access"]["order"] == "zipf" and values["access"]["zipf_exponent"] <= 0:
        yield f"access.zipf_exponent={values['access']['zipf_exponent']} is not positive: use for example 1.1"
    for option in strategy_entries().get(values["strategy"]["name"], {}).get("options", []):
        value = values["strategy"][option["name"]]
        if not option["choices"] and not option["minimum"] <= value <= option["maximum"]:
            yield (f"strategy.{option['name']}={value} is out of range: use {option['minimum']} to {option['maximum']}")


def _guest(values: dict[str, Any], host: Host) -> Iterator[str]:
    memory, mix = values["memory"], values["fault_mix"]
    region_bytes, page_bytes = memory["region_mib"] * MIB, memory["page_bytes"]
    allowed = {"hugetlb": (2 * MIB,)}.get(memory["type"], (4096,))
    if page_bytes not in allowed:
        yield f"memory.page_bytes={page_bytes} does not go with {memory['type']} memory: use {allowed[0]}"
    elif region_bytes % page_bytes:
        yield (
            f"memory.region_mib={memory['region_mib']} is not a multiple of the page size {page_bytes}: "
            f"use a multiple of {max(page_bytes // MIB, 1)} MiB"
        )
    elif region_bytes // page_bytes < values["vcpus"]:
        yield (
            f"the region has {region_bytes // page_bytes} pages for vcpus={values['vcpus']}: "
            "use a larger memory.region_mib or fewer vcpus"
        )
    elif region_bytes // page_bytes < values["uffds_per_vmm"]:
        yield (
            f"the region has {region_bytes // page_bytes} pages for uffds_per_vmm={values['uffds_per_vmm']}: "
            "use a larger memory.region_mib or fewer userfaultfds"
        )
    total = sum(mix[kind] for kind in FAULT_KINDS)
    if abs(total - 1) > SHARES_TOLERANCE:
        yield f"the shares of fault_mix sum to {total:g}, not 1: change {', '.join('fault_mix.' + k for k in FAULT_KINDS)}"
    if values["vcpus"] % values["vcpus_per_vmm"]:
        yield (
            f"vcpus={values['vcpus']} cannot be divided over VMM processes of vcpus_per_vmm={values['vcpus_per_vmm']}: "
            "make vcpus a multiple of it"
        )
    if memory["type"] == "anon" and values["vcpus_per_vmm"] != values["vcpus"]:
        yield (
            "anonymous memory has one mapping, so one VMM process holds all vCPUs: "
            f"set vcpus_per_vmm={values['vcpus']}, or use memory=shmem"
        )
    if values["cores"] > len(host.cpus):
        yield f"cores={values['cores']}, but this process may use {len(host.cpus)} CPUs: use at most {len(host.cpus)}"


def _legality(values: dict[str, Any], host: Host) -> Iterator[str]:
    entry = strategy_entries()[values["strategy"]["name"]]
    memory_type = memory_type_of(entry, values["memory"]["type"])
    if memory_type == "file":
        yield from _own_mapping(values)
    reasons = dict.fromkeys(judge(entry, memory_type, kind, host).reason for kind in FAULT_KINDS if values["fault_mix"][kind] > 0)
    yield from (reason for reason in reasons if reason)
    engine = engine_entries()[values["engine"]["name"]]
    exit_kind = _native.exit_kind(entry["name"], strategy_options(entry, values["strategy"]))
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


def _placement(values: dict[str, Any], host: Host) -> Iterator[str]:
    placement = values["placement"]
    named = [*placement["vcpu_cpus"], *placement["reader_cpus"]]
    if placement["policy"] == "explicit" and not placement["vcpu_cpus"]:
        yield "placement=explicit needs placement.vcpu_cpus, for example placement.vcpu_cpus=[0,1]"
    if placement["policy"] != "explicit" and named:
        yield f"placement.vcpu_cpus and reader_cpus are read under placement=explicit only, not {placement['policy']}"
    absent = sorted(set(named) - set(host.cpus))
    if absent:
        yield (
            f"placement names CPU {', '.join(map(str, absent))}, which this process may not use: "
            f"use some of {', '.join(map(str, host.cpus))}"
        )


def _trace(values: dict[str, Any]) -> Iterator[str]:
    if values["access"]["order"] != "trace":
        return
    path = values["access"]["trace_file"]
    if not path:
        yield "access=trace needs access.trace_file, a file of page numbers, one a line"
        return
    try:
        pages = read_trace(path)
    except OSError as error:
        yield f"access.trace_file={path} cannot be read: {error.strerror}"
        return
    except ValueError as error:
        yield f"access.trace_file={path} holds something that is no page number: {error}"
        return
    count = values["memory"]["region_mib"] * MIB // values["memory"]["page_bytes"]
    outside = [page for page in pages if not 0 <= page < count]
    if not pages or outside:
        what = f"touches page {outside[0]} of a region of {count} pages" if outside else "is empty"
        yield f"access.trace_file={path} {what}: use a trace of this region, or another memory.region_mib"


def _source(values: dict[str, Any]) -> Iterator[str]:
    source, memory = values["source"], values["memory"]
    name = source["name"]
    initial = SourceSpec()
    for owner, keys in SOURCE_KEYS.items():
        for key in keys:
            if owner != name and source[key] != getattr(initial, key):
                yield f"source.{key}={source[key]} is read under source={owner} only, not {name}"
    if name != "local" and values["fault_mix"]["absent"] == 0:
        yield f"source={name} is asked for absent pages only and fault_mix has none: use fault_mix=absent, or source=local"
    if name == "file" and source["file"]:
        yield from _snapshot(source["file"], memory["region_mib"] * MIB)
    if name == "remote":
        yield from _remote(source, memory, values["watchdog_s"])


def _snapshot(path: str, region_bytes: int) -> Iterator[str]:
    try:
        found = Path(path).stat().st_size
    except OSError as error:
        yield f"source.file={path} cannot be read: {error.strerror}; `loadgen-source --snapshot {path}` writes one"
        return
    if found != region_bytes:
        yield (
            f"source.file={path} has {found} bytes and the region has {region_bytes}: use a snapshot of this region, "
            "or another memory.region_mib"
        )


def _remote(source: dict[str, Any], memory: dict[str, Any], watchdog_s: float) -> Iterator[str]:
    if source["address"]:
        try:
            split_address(source["address"])
        except ValueError as error:
            yield f"source.address: {error}"
        if source["rtt_us"] > 0:
            yield "source.rtt_us is emulated by a source this session starts: leave source.address empty, or use its --rtt-us"
    if source["push"] and memory["type"] == "anon":
        yield (
            "pushed pages need a place before they are asked for, and anonymous memory has none: use source.push=false, "
            "or memory=shmem"
        )
    given_s = source["timeout_s"] * (source["retries"] + 1)
    if 0 < watchdog_s <= given_s:
        yield (
            f"source.timeout_s={source['timeout_s']:g} with source.retries={source['retries']} gives the source {given_s:g} s "
            f"and watchdog_s={watchdog_s:g} ends the run first: use a larger watchdog_s, or smaller ones of these"
        )
    if source["rtt_us"] / 1e6 >= source["timeout_s"]:
        yield f"source.rtt_us={source['rtt_us']:g} is no less than source.timeout_s={source['timeout_s']:g}: use a larger one"
    frame_s = source["batch_pages"] * memory["page_bytes"] / (source["push_mib_per_s"] * MIB) if source["push_mib_per_s"] else 0.0
    if source["push"] and frame_s >= source["timeout_s"]:
        yield (
            f"source.push_mib_per_s={source['push_mib_per_s']:g} sends a batch every {frame_s:.3g} s, which is no less than "
            f"source.timeout_s={source['timeout_s']:g}: use a smaller source.batch_pages, or a larger source.timeout_s"
        )


def _inject(values: dict[str, Any]) -> Iterator[str]:
    server, entry = values["page_server"], strategy_entries()[values["strategy"]["name"]]
    if server["vanish_after_events"] and (entry["exit"] != "none" or not entry["userfaultfd"]):
        yield (
            f"page_server.vanish_after_events closes the last userfaultfd, and under strategy {entry['name']} the VMM process "
            "works with its own: use strategy=uffd_wait"
        )
    if server["vanish_after_events"] and server["readers_per_uffd"] > 1:
        yield (
            "page_server.vanish_after_events closes what other readers of the same userfaultfd are using: "
            "use page_server.readers_per_uffd=1"
        )
    if not server["contents_bit"] and values["memory"]["type"] == "anon":
        yield "page_server.contents_bit=false is about pages filled in place, and anonymous memory has none: use memory=shmem"


def _cluster(values: dict[str, Any]) -> Iterator[str]:
    cluster = values["cluster"]
    if cluster["name"] == "existing" and not cluster["address"]:
        yield "cluster=existing needs cluster.address, for example 10.0.0.1:6379; auto: the cluster this host belongs to"
    if cluster["name"] == "existing" and values["swap"]["name"] != "none":
        yield (
            f"swap={values['swap']['name']} is set up on the driver's own host only: under cluster=existing use swap=none and "
            "what the nodes have"
        )
    if cluster["name"] == "local":
        for key in ("address", "leave_out"):
            if cluster[key]:
                yield f"cluster.{key} is read under cluster=existing only, not local"
    if values["guests"] * values["vcpus"] > MOST_VCPUS:
        yield (
            f"guests={values['guests']} of vcpus={values['vcpus']} are more than the {MOST_VCPUS} vCPUs a run can number: "
            "use fewer of either"
        )


def _memory(cfg: DictConfig, values: dict[str, Any], host: Host, guests: int) -> Iterator[str]:
    needed = plan_run(cfg, host).memory_bytes * guests
    if needed > host.free_bytes:
        yield (
            f"the run needs {needed / MIB:.0f} MiB and {host.free_bytes / MIB:.0f} MiB are free: "
            "use a smaller memory.region_mib or faults_limit, fewer guests, or fewer VMM processes (a larger vcpus_per_vmm)"
        )
    if values["memory"]["type"] == "hugetlb":
        pages = values["memory"]["region_mib"] // 2 * guests
        if pages > host.huge_pages_free:
            yield (
                f"memory=hugetlb needs {pages} free huge pages of 2 MiB and there are {host.huge_pages_free}: "
                f"`sysctl vm.nr_hugepages={pages}`"
            )
