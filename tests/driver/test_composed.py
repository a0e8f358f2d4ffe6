"""A sweep's jobs are composed once, and what comes out is what Hydra itself would have composed for each."""

from __future__ import annotations

from typing import Any

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from loadgen.app import config_path
from loadgen.sweep.compose_cache import Composed, repeated

JOB = ["strategy=no_slow_gup", "vcpus=2", "repeats=3", "sweep_id=s1"]


def plain(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=False)


def test_every_repeat_of_a_job_is_what_hydra_composes_for_it_and_is_composed_once() -> None:
    with initialize_config_module(config_path().removeprefix("pkg://"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["hydra.job.name=loadgen"], RunMode.MULTIRUN)
        asked: list[list[str]] = []

        class Counting:
            def load_sweep_config(self, master: Any, overrides: list[str]) -> Any:
                asked.append(overrides)
                return loader.load_sweep_config(master, overrides)

        composed = Composed(Counting())  # type: ignore[arg-type]
        for repeat in (0, 1, 2):
            overrides = repeated(JOB, repeat)
            found = composed.load_sweep_config(master, overrides)
            assert plain(found) == plain(loader.load_sweep_config(master, overrides))
            found.vcpus = 64  # a job may change its own
        assert asked == [repeated(JOB, 0)]


def test_a_job_that_differs_in_values_only_is_what_hydra_composes_for_it() -> None:
    with initialize_config_module(config_path().removeprefix("pkg://"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["hydra.job.name=loadgen"], RunMode.MULTIRUN)
        composed = Composed(loader)
        for values in (("1", "[0]", "a"), ("${seed}", "[1,2]", "'b c'"), ("64", "[]", '"x=${vcpus}"'), ("'7'", "[3]", "1")):
            cpus, placed, name = values
            job = ["strategy=no_slow_gup", f"vcpus={cpus}", f"placement.vcpu_cpus={placed}", f"fault_mix.name={name}", "repeat=0"]
            expected = loader.load_sweep_config(master, job)
            assert plain(composed.load_sweep_config(master, job)) == plain(expected)
            del plain(expected)["hydra"]
            assert plain(composed.task_config(master, job)) == {k: v for k, v in plain(expected).items() if k != "hydra"}
            with open_dict(expected):
                del expected["hydra"]
            assert composed.values(master, job) == OmegaConf.to_container(expected, resolve=True)
        assert len(composed._templates) == 1
