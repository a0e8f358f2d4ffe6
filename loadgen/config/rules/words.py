"""The words of a configuration: each one of those that are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadgen.config.rules import disturb
from loadgen.plan.placement import POLICIES
from results import questions
from workers.registry import engine_entries, strategy_entries
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
)

CLUSTERS = ("local", "existing")


def problems(values: dict[str, Any]) -> Iterator[str]:
    """Words that are unknown."""
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
        *disturb.words(values["disturb"]),
        *_choices("strategy", strategy_entries(), values["strategy"]),
        *_choices("engine", engine_entries(), values["engine"]),
    ):
        if value not in known:
            yield f"{key}={value} is unknown: use one of {', '.join(known)}"


def _choices(group: str, entries: dict[str, Any], values: dict[str, Any]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    for option in entries.get(values["name"], {}).get("options", []):
        if option["choices"]:
            yield f"{group}.{option['name']}", values.get(option["name"]), tuple(option["choices"])
