"""A typo is answered with what there is; ids and data sets of a sweep are ones that can be stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig

from loadgen.config.validate import validate
from loadgen.errors import ConfigError
from loadgen.host.probe import Host
from loadgen.sweep import plan_runs
from results.store.dataset import DataSet
from workers import _native

Configure = Callable[..., DictConfig]


@pytest.mark.parametrize("strategy", [entry["name"] for entry in _native.strategies()])
def test_an_unknown_option_of_a_strategy_is_refused_with_its_options(configure: Configure, strategy: str) -> None:
    with pytest.raises(ConfigCompositionException) as caught:
        configure(f"strategy={strategy}", "strategy.nonsense=4")
    options = next(entry["options"] for entry in _native.strategies() if entry["name"] == strategy)
    assert f"(keys: {', '.join(['name', *(option['name'] for option in options)])})" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("override", "keys"),
    [
        ("memory.region_mb=4", "type, region_mib, page_bytes, regions, numa, transparent_huge_pages"),
        ("placement.vcpus=[1]", "policy, node, vcpu_cpus, reader_cpus"),
        ("vcpu=4", "vcpus, vcpus_per_vmm, uffds_per_vmm, cores, repeats"),
    ],
)
def test_a_mistyped_key_is_refused_with_the_keys_there_are(configure: Configure, override: str, keys: str) -> None:
    with pytest.raises(ConfigCompositionException) as caught:
        configure(override)
    assert keys in str(caught.value.__cause__)


def test_more_vmm_processes_than_memory_is_free_for_are_refused(configure: Configure, host: Host) -> None:
    with pytest.raises(ConfigError, match="fewer VMM processes"):
        validate(configure("vcpus=1000"), host)
    validate(configure("vcpus=1000", "vcpus_per_vmm=1000"), host)


def test_a_negative_seed_is_refused(configure: Configure, host: Host) -> None:
    with pytest.raises(ConfigError, match="seed=-1 is too small: use at least 0"):
        validate(configure("seed=-1"), host)


@pytest.mark.parametrize("random", ["0515", "ab12", "1e10"])
def test_a_sweeps_id_can_be_stored_whatever_its_random_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: str) -> None:
    monkeypatch.setattr(plan_runs, "token_hex", lambda _: random)
    DataSet.open(str(tmp_path / "dataset")).writer("run", plan_runs.new_sweep_id()).discard()
