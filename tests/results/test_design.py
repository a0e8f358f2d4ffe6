"""In what the configurations of a data set differ."""

from __future__ import annotations

import json
from typing import Any

import pytest

from results.statistics.design import axes, baseline_of, differing, grouped, having, value_of
from results.store.locations import DataSetError


def run(strategy: str = "uffd_wait", options: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    columns = {key: value for key, value in values.items() if "." not in key and key != "config"}
    config = {"strategy": {"name": strategy, **(options or {})}, "repeat": columns.get("repeat", 0), **values.get("config", {})}
    return {"strategy": strategy, "config_json": json.dumps(config), "job_overrides": "", **columns}


def test_a_parameter_that_follows_from_another_is_no_axis_of_its_own() -> None:
    runs = [run(vcpus=n, vcpu_cpus=",".join(map(str, range(n))), readers=n) for n in (1, 2)]
    assert axes(runs) == ("vcpus",)
    assert differing(runs, ()) == ("vcpus", "readers", "vcpu_cpus")


def test_an_option_without_a_column_is_an_axis_by_its_configuration_key() -> None:
    runs = [run("no_slow_gup", {"around": n}, strategy_options=f'{{"around": {n}}}') for n in (1, 4)] + [run()]
    assert axes(runs) == ("strategy", "strategy.around")
    assert [value_of(one, "strategy.around") for one in runs] == [1, 4, None]


def test_shares_of_a_fault_mix_of_one_name_tell_runs_apart_and_the_one_that_was_asked_for_is_named() -> None:
    runs = [
        run(fault_mix="mixed", config={"fault_mix": {"minor": 1 - share, "swapped": share}}, job_overrides="fault_mix.swapped=0")
        for share in (0.0, 0.5, 1.0)
    ]
    assert axes(runs) == ("fault_mix.swapped",)


def test_repeats_seeds_and_where_it_was_stored_tell_nothing_apart() -> None:
    runs = [run(repeat=n, config={"seed": n, "dataset": f"d{n}", "repeats": 2}) for n in (0, 1)]
    assert axes(runs) == ()


def test_groups_come_baseline_first_then_numbers_by_size_and_null_last() -> None:
    runs = [run("no_slow_gup", vcpus=16), run("no_slow_gup", vcpus=2), run("no_slow_gup", vcpus=None), run(vcpus=4)]
    assert list(grouped(runs, ("strategy", "vcpus"))) == [
        *(("uffd_wait", 4), ("no_slow_gup", 2), ("no_slow_gup", 16), ("no_slow_gup", None)),
    ]


def test_without_uffd_wait_the_first_strategy_by_name_is_the_baseline() -> None:
    assert baseline_of(["null", "no_uffd_wait"]) == "no_uffd_wait"
    assert baseline_of(["no_uffd_wait", "uffd_wait"]) == "uffd_wait"
    assert baseline_of([None]) is None


def test_runs_are_chosen_by_a_value_as_people_write_it() -> None:
    runs = [run(vcpus=2, overlap=True, delay_us=0.5), run(vcpus=4, overlap=False, delay_us=1.0)]
    for parameter, value in (("vcpus", "2"), ("overlap", "true"), ("delay_us", "0.50"), ("strategy", "uffd_wait")):
        assert having(runs, parameter, value)[0] is runs[0]
    with pytest.raises(DataSetError, match=r"no run has vcpus=8; there is: 2, 4"):
        having(runs, "vcpus", "8")
    with pytest.raises(DataSetError, match=r"runs has no column 'vcpu'; it has: .*; configuration keys: repeat, strategy.name"):
        having(runs, "vcpu", "8")
