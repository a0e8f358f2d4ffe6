"""What engine=kvm refuses, by its text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from loadgen.config.validate import validate
from loadgen.errors import ConfigError
from loadgen.host.probe import Host
from loadgen.plan.legality import refuse_engine
from loadgen.plan.plan import plan_run
from loadgen.run.calibration import emulated_exit
from loadgen.run.run_row import describe
from workers import _native
from workers.registry import engine_entry

KVM = engine_entry("kvm")
NO_EXIT = "this kernel's KVM does not exit when fast GUP fails"


@pytest.fixture
def kvm_host(host: Host) -> Host:
    return dataclasses.replace(host, kvm=True, kvm_exit_on_missing=NO_EXIT, kvm_most_vcpus=8)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["strategy=no_slow_gup"], f"engine=kvm: {NO_EXIT}"),
        (["strategy=populate"], f"engine=kvm: {NO_EXIT}"),
        (["strategy=no_uffd_wait", "strategy.exit_via=populate"], "use strategy.exit_via=signal, or engine=thread"),
        (["disturb=balloon", "disturb.balloon.stage2=stale"], "so none can go stale: use disturb.balloon.stage2=dropped"),
        (["vcpus=16", "vcpus_per_vmm=16"], "vcpus_per_vmm=16, but this kernel gives a KVM guest at most 8 vCPUs"),
    ],
)
def test_a_run_that_real_vcpus_cannot_make_is_refused_with_the_way_out(
    configure: Callable[..., DictConfig], kvm_host: Host, overrides: list[str], text: str
) -> None:
    with pytest.raises(ConfigError) as error:
        validate(configure("engine=kvm", *overrides), kvm_host)
    assert text in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["strategy=eager", "fault_mix=absent"],
        ["strategy=file_map", "fault_mix=absent", "source=file"],
        ["strategy=null"],
        ["disturb=[balloon,devices,mmap_writers,migrator]", "prefetch=order"],
        ["disturb=devices_second", "strategy=no_uffd_wait", "disturb.balloon.track_removes=false"],
        ["memory=hugetlb"],
        ["memory=anon", "fault_mix=swapped", "swap=zram"],
        ["experiment=slow_gup_trip_kvm", "strategy=uffd_wait", "fault_mix.swapped=1"],
        ["experiment=slow_gup_trip_kvm", "strategy=no_uffd_wait", "fault_mix.swapped=0.5"],
    ],
    ids=" ".join,
)
def test_what_needs_no_exit_after_fast_gup_real_vcpus_run(
    configure: Callable[..., DictConfig], kvm_host: Host, overrides: list[str]
) -> None:
    validate(configure("engine=kvm", *overrides), dataclasses.replace(kvm_host, huge_pages_free=64))


def test_the_experiment_of_swapped_pages_leaves_the_extra_trip_to_threads(
    configure: Callable[..., DictConfig], kvm_host: Host
) -> None:
    experiment = configure("experiment=slow_gup_trip_kvm", return_hydra_config=True).hydra.sweeper
    assert (experiment.params["engine"], experiment.params["strategy"]) == ("thread,kvm", "uffd_wait,no_uffd_wait")
    [alone] = experiment.also
    assert (alone["engine"], alone["strategy"]) == ("thread", "no_slow_gup")
    validate(configure("experiment=slow_gup_trip_kvm", "strategy=no_slow_gup", "fault_mix.swapped=0.5"), kvm_host)


def test_a_region_that_no_guest_maps_is_refused_with_the_largest_that_one_does(kvm_host: Host) -> None:
    [reason] = refuse_engine(KVM, "none", 1, 300 << 30, kvm_host)
    assert reason == "memory.region_mib=307200 is more than a guest of engine=kvm maps: use at most 253952"


@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait"])
def test_real_vcpus_are_an_axis_like_any_other_and_their_exits_are_not_emulated(
    configure: Callable[..., DictConfig], kvm_host: Host, strategy: str
) -> None:
    cfg = configure("engine=kvm", f"strategy={strategy}", "engine.guest_mode=kernel")
    validate(cfg, kvm_host)
    planned = plan_run(cfg, kvm_host)
    spec = planned.spec
    assert (spec.engine, spec.engine_options) == ("kvm", {"guest_mode": 1})
    row = describe(planned)
    assert row["engine_options"] == '{"guest_mode": "kernel"}'  # as asked for, not as the core numbers it
    assert json.loads(row["strategy_options"])["fault_around_pages"] == 1
    assert emulated_exit(spec) == "none"
    threads = plan_run(configure(f"strategy={strategy}"), kvm_host).spec
    assert emulated_exit(threads) == _native.exit_kind(strategy, threads.strategy.options)
