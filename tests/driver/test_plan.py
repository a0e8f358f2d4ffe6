from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

import conf
from loadgen.config.validate import validate
from loadgen.host.probe import Host
from loadgen.plan.placement import place
from loadgen.plan.plan import plan_run
from loadgen.sweep.plan_runs import new_sweep_id
from results.store.dataset import DataSet
from workers.registry import strategy_entries

Configure = Callable[..., DictConfig]
CONF = Path(conf.__file__).parent


def test_the_same_configuration_gives_the_same_run(configure: Configure, host: Host) -> None:
    overrides = ("vcpus=4", "strategy=no_slow_gup", "sweep_id=s", "repeat=2")
    assert plan_run(configure(*overrides), host, 7) == plan_run(configure(*overrides), host, 7)


def test_run_ids_sort_by_repeat_and_then_by_job(configure: Configure, host: Host) -> None:
    ids = [
        plan_run(configure("sweep_id=s", f"repeat={repeat}"), host, job).spec.run_id
        for repeat in (0, 1, 10)
        for job in (0, 1, 100)
    ]
    assert ids == sorted(ids)
    assert len(set(ids)) == 9


def test_each_repeat_has_a_seed_of_its_own(configure: Configure, host: Host) -> None:
    seeds = {plan_run(configure("sweep_id=s", f"repeat={repeat}"), host).spec.seed for repeat in range(5)}
    assert len(seeds) == 5


def test_contents_are_new_in_every_repeat_only_where_they_are_computed_here(configure: Configure, host: Host) -> None:
    seeds = {
        source: [plan_run(configure(f"source={source}", f"repeat={repeat}"), host).spec.source.seed for repeat in (0, 1)]
        for source in ("local", "file", "remote")
    }
    assert seeds == {"local": [1, 2], "file": [1, 1], "remote": [1, 1]}


def test_a_source_on_this_host_needs_the_memory_it_holds(configure: Configure, host: Host) -> None:
    needed = [
        plan_run(configure("memory.region_mib=512", *overrides), host).memory_bytes
        for overrides in ([], ["source=remote"], ["source=remote", "source.address=there:7000"])
    ]
    assert needed[1] - needed[0] >= 512 << 20
    assert needed[2] == needed[0]


def test_records_are_kept_under_the_limit_and_every_one_where_there_is_room(configure: Configure, host: Host) -> None:
    whole = plan_run(configure("sweep_id=s", "vcpus=4", "memory.region_mib=16"), host).spec
    assert whole.sample_every == 1
    assert whole.record_capacity >= 1024
    one_round = ("sweep_id=s", "vcpus=4", "memory.region_mib=16", "measure_s=0")
    sampled = plan_run(configure(*one_round, "faults_limit=400"), host).spec
    assert sampled.sample_every == 11  # 1024 faults a vCPU, 100 records
    assert sampled.record_capacity >= 1024 // 11
    none = plan_run(configure("sweep_id=s", "vcpus=4", "memory.region_mib=16", "faults_limit=0"), host).spec
    assert none.record_capacity == 0


@pytest.mark.parametrize(
    ("policy", "vcpus", "readers"),
    [
        ("spread", ((0,), (1,), (2,)), ((0,), (1,))),
        ("pack", ((0,), (1,), (2,)), ((0,), (1,))),
        ("none", ((0, 1, 2),) * 3, ((0, 1, 2),) * 2),
    ],
)
def test_placement_policies(policy: str, vcpus: object, readers: object) -> None:
    placed = place(policy, (0, 1, 2), 3, 2)
    assert (placed.vcpu_cpus, placed.reader_cpus) == (vcpus, readers)


def test_spread_puts_the_reader_on_another_cpu_and_pack_beside_the_vcpu() -> None:
    assert place("spread", (0, 1), 1, 1).reader_cpus == ((1,),)
    assert place("pack", (0, 1), 1, 1).reader_cpus == ((0,),)
    assert place("explicit", (0, 1), 3, 1, [1], [0]).vcpu_cpus == ((1,), (1,), (1,))


def test_cores_limits_the_cpus_that_are_used(configure: Configure, host: Host) -> None:
    spec = plan_run(configure("sweep_id=s", "cores=2", "vcpus=4"), host).spec
    assert {cpu for cpus in (*spec.placement.vcpu_cpus, *spec.placement.reader_cpus) for cpu in cpus} == {0, 1}


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_composes_sweeps_by_itself_and_is_accepted(configure: Configure, host: Host, experiment: str) -> None:
    cfg = configure(f"experiment={experiment}", "sweep_id=s", return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    assert cfg.hydra.sweeper.params
    first, second = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()[:2]
    assert first == "# @package _global_"
    assert second == f"# loadgen experiment={experiment}"
    validate(configure(f"experiment={experiment}", "sweep_id=s"), host)


@pytest.mark.parametrize("group", ["access", "fault_mix", "memory", "page_server", "placement", "source", "strategy"])
def test_every_choice_of_a_group_composes(configure: Configure, group: str) -> None:
    choices = [path.stem for path in (CONF / group).glob("*.yaml")]
    assert choices
    for choice in choices:
        configure(f"{group}={choice}")


def test_every_strategy_of_the_native_registry_is_a_choice_with_typed_options(configure: Configure) -> None:
    for name, entry in strategy_entries().items():
        strategy = configure(f"strategy={name}").strategy
        assert strategy.name == name
        assert set(strategy) == {"name", *(option["name"] for option in entry["options"])}


def test_sweep_ids_are_accepted_by_the_data_set(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    for number in range(200):
        dataset.writer(f"run{number}", new_sweep_id()).discard()
