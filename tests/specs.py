"""Specs for tests without a configuration of their own: what `loadgen` without arguments plans, with the fields a test gives."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from hydra import compose, initialize_config_module

from loadgen.app import config_path
from loadgen.config.hydra_schema import register
from loadgen.host.probe import probe
from loadgen.plan.specs import run_spec
from loadgen.plan.values import plain
from loadgen.sweep.sweeper import register_sweeper
from workers.spec import FAULT_KINDS, AccessSpec, FaultMixSpec, MemorySpec, PageServerSpec, PrefetchSpec, RunSpec, SourceSpec


@cache
def planned() -> RunSpec:
    """The configuration of `loadgen` without arguments, on this host; one round unless a test gives more."""
    register()
    register_sweeper()
    with initialize_config_module(config_path().removeprefix("pkg://"), version_base="1.3"):
        cfg = compose("config", ["sweep_id=sweep"])
    return replace(run_spec(plain(cfg), probe(), 0), measure_s=0.0, rounds_limit=1, one_round="")


def run(**fields: Any) -> RunSpec:
    """A run."""
    return replace(planned(), **fields)


def fault_mix(**shares: Any) -> FaultMixSpec:
    """A mix of these page states and no others."""
    return replace(planned().fault_mix, **dict.fromkeys(FAULT_KINDS, 0.0) | shares)


def memory(kind: str, region_bytes: int, page_bytes: int) -> MemorySpec:
    """A guest region."""
    return MemorySpec(kind, region_bytes, page_bytes, transparent_huge_pages=False, regions=1, numa="default")


def access(**fields: Any) -> AccessSpec:
    """The accesses of a vCPU."""
    return replace(planned().access, **fields)


def page_server(**fields: Any) -> PageServerSpec:
    """A page server."""
    return replace(planned().page_server, **fields)


def source(**fields: Any) -> SourceSpec:
    """A source."""
    return replace(planned().source, **fields)


def prefetch(name: str, **fields: Any) -> PrefetchSpec:
    """A prefetcher."""
    return replace(planned().prefetch, name=name, **fields)
