"""Which runs of a plan a data set holds already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from loadgen.errors import ConfigError
from loadgen.host.probe import Host
from loadgen.plan.plan import plan_run
from loadgen.sweep.resume import Rest, rest_of
from results.store.dataset import DataSet

KEYS = ["a", "b", "c"]


def store(folder: Path, sweep_id: str, *runs: tuple[int, str, str]) -> str:
    """A data set with runs of a sweep: number, plan key and status of each."""
    dataset = DataSet.open(str(folder / "dataset"))
    for number, key, status in runs:
        with dataset.writer(f"{sweep_id}-000-{number:05d}", sweep_id) as writer:
            writer.commit({"status": status, "plan_key": key}, [])
    return dataset.uri


def test_without_a_data_set_all_of_the_plan_is_left(tmp_path: Path) -> None:
    assert rest_of(str(tmp_path / "none"), KEYS, "s-new") == Rest("s-new", (0, 1, 2), 0, 0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("table", ["runs", "vcpus"])
def test_a_torn_file_refuses_to_go_on_and_is_named(tmp_path: Path, table: str) -> None:
    uri = store(tmp_path, "s-old", (0, "a", "ok"), (1, "b", "ok"))
    torn = tmp_path / f"dataset/{table}/sweep=s-old/s-old-000-00001.parquet"
    torn.parent.mkdir(parents=True, exist_ok=True)
    torn.write_bytes((tmp_path / "dataset/runs/sweep=s-old/s-old-000-00000.parquet").read_bytes()[:-20])
    with pytest.raises(ConfigError) as refused:
        rest_of(uri, KEYS, "s-new")
    [problem] = refused.value.problems
    assert str(torn) in problem and "move the files of this run, */sweep=s-old/s-old-000-00001.parquet" in problem


def test_a_data_set_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    uri = store(tmp_path, "s-old", (0, "a", "ok"))
    (tmp_path / "dataset/_schema.json").write_text("{")
    with pytest.raises(ConfigError, match=r"resume=true: data set .* makes no sense"):
        rest_of(uri, KEYS, "s-new")


def test_runs_that_ended_in_whatever_way_are_finished_and_the_rest_joins_their_sweep(tmp_path: Path) -> None:
    uri = store(tmp_path, "s-old", (0, "a", "ok"), (1, "b", "stuck"))
    assert rest_of(uri, KEYS, "s-new") == Rest("s-old", (2,), 2, 2)


def test_an_interrupted_run_is_not_finished(tmp_path: Path) -> None:
    uri = store(tmp_path, "s-old", (0, "a", "ok"), (1, "b", "interrupted"))
    assert rest_of(uri, KEYS, "s-new") == Rest("s-old", (1, 2), 2, 1)


def test_a_sweep_of_other_runs_is_none_to_go_on_with(tmp_path: Path) -> None:
    uri = store(tmp_path, "s-other", (0, "x", "ok"))
    assert rest_of(uri, KEYS, "s-new") == Rest("s-new", (0, 1, 2), 0, 0)


def test_the_newest_sweep_of_the_plan_counts(tmp_path: Path) -> None:
    store(tmp_path, "s-1", (0, "a", "ok"), (1, "b", "ok"), (2, "c", "ok"))
    uri = store(tmp_path, "s-2", (0, "a", "ok"))
    assert rest_of(uri, KEYS, "s-new") == Rest("s-2", (1, 2), 1, 1)


def test_a_configuration_asked_for_twice_is_run_twice(tmp_path: Path) -> None:
    uri = store(tmp_path, "s-old", (0, "a", "ok"))
    assert rest_of(uri, ["a", "a"], "s-new").left == (1,)


def test_a_sweep_that_is_complete_leaves_nothing(tmp_path: Path) -> None:
    uri = store(tmp_path, "s-old", (0, "a", "ok"), (1, "b", "ok"), (2, "c", "ok"))
    assert rest_of(uri, KEYS, "s-new").left == ()


@pytest.mark.parametrize("other", ["vcpus=2", "repeat=1", "seed=2", "fault_mix=absent", "strategy=no_slow_gup", "watchdog_s=9"])
def test_runs_that_measure_something_else_have_another_plan_key(
    configure: Callable[..., DictConfig], host: Host, other: str
) -> None:
    assert plan_run(configure(), host).plan_key != plan_run(configure(other), host).plan_key


@pytest.mark.parametrize("other", ["dataset=there", "quiet=true", "repeats=5", "sweep_id=s", "resume=true", "recover=true"])
def test_where_results_go_and_how_a_run_is_watched_does_not_change_its_plan_key(
    configure: Callable[..., DictConfig], host: Host, other: str
) -> None:
    assert plan_run(configure(), host).plan_key == plan_run(configure(other), host).plan_key
