"""Two sides compared cell by cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results.app import main
from results.statistics.comparison import Side, better, compare
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from tests.results.rows import store

REPEATS = 6


def measured(path: Path, slower: float = 1.0, repeats: int = REPEATS, planned: int = REPEATS, **values: object) -> str:
    """A data set of two strategies at two numbers of vCPUs; `slower`: how many times longer no_uffd_wait takes at 4."""
    dataset = DataSet.open(str(path))
    for repeat in range(repeats):
        for strategy in ("uffd_wait", "no_uffd_wait"):
            for vcpus in (2, 4):
                seconds = (1 + 0.01 * repeat) * (slower if (strategy, vcpus) == ("no_uffd_wait", 4) else 1)
                store(
                    dataset,
                    f"{strategy}-{vcpus}-{repeat}",
                    seconds=seconds,
                    repeat=repeat,
                    strategy=strategy,
                    vcpus=vcpus,
                    config_json=json.dumps({"repeats": planned, "strategy": {"name": strategy}, "vcpus": vcpus}),
                    **values,
                )
    return str(path)


def test_only_the_cell_that_moved_is_said_to_and_by_how_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b", slower=1.25)
    assert main(["compare", a, b]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if "_wait" in line and "|" in line]
    verdicts = {tuple(row[:2]): row[-1] for row in rows}
    assert verdicts == {
        ("uffd_wait", "2"): "equal",
        ("uffd_wait", "4"): "equal",
        ("no_uffd_wait", "2"): "equal",
        ("no_uffd_wait", "4"): "worse: -20.0%",
    }
    assert "6 repeats a cell, fixed before looking; ratio of medians" in out
    assert "1 of 4 cells moved (higher is better); if nothing had, 0.2 would seem to" in out


def test_fail_above_ends_with_1_beyond_it_and_with_0_below(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b", slower=1.25)
    assert main(["compare", a, b, "--fail-above", "10"]) == 1
    assert "failed: strategy=no_uffd_wait vcpus=4: -20.0%, B / A 0.8" in capsys.readouterr().out
    assert main(["compare", a, b, "--fail-above", "30"]) == 0
    assert "no cell is worse by more than 30%" in capsys.readouterr().out
    assert main(["compare", b, a, "--fail-above", "10"]) == 0  # better is no failure


def test_other_hosts_are_refused_with_the_field_that_differs_unless_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b", kernel="6.2.0", cpu_model="another")
    assert main(["compare", a, b]) == 2
    assert (
        "kernel is 6.1.0 in A and 6.2.0 in B; if you mean to compare them all the same: --across kernel"
        in capsys.readouterr().err
    )
    assert main(["compare", a, b, "--across", "kernel"]) == 2
    assert "cpu_model is None in A and another in B" in capsys.readouterr().err
    assert main(["compare", a, b, "--across", "kernel,cpu_model"]) == 0


def test_a_cell_with_fewer_repeats_than_were_planned_is_not_judged_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b", repeats=4)
    assert main(["compare", a, b]) == 0
    assert "B has 4 of 6 repeats that are ok" in capsys.readouterr().out
    assert main(["compare", a, b, "--fail-above", "50"]) == 1
    assert main(["compare", a, b, "--fail-above", "50", "--repeats", "4"]) == 0


def test_a_cell_that_was_run_again_is_not_judged(tmp_path: Path) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b")
    store(DataSet.open(b), "again", sweep_id="sweep-2", strategy="uffd_wait", vcpus=2, config_json='{"repeats": 6, "vcpus": 2}')
    found = compare(Side("a", DataSet.existing(a).runs()), Side("b", DataSet.existing(b).runs()), "pages_per_s")
    assert [cell.undecided for cell in found.cells if cell.undecided] == [
        "B was run again (2 sweeps: sweep-1, sweep-2); choose one with --where sweep_id=..."
    ]


def test_two_values_of_a_parameter_are_paired_by_repeat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = measured(tmp_path / "a", slower=1.25)
    assert main(["compare", a, "--by", "strategy=uffd_wait,no_uffd_wait"]) == 0
    out = capsys.readouterr().out
    assert "ratios within each repeat" in out
    # Repeats differ by up to 5 %, pairs do not at all.
    assert "0.8 (0.8..0.8) | worse: -20.0%" in out
    assert main(["compare", a, "--by", "vcpus=2,4", "--value", "duration_s", "--where", "strategy=no_uffd_wait"]) == 0
    assert "worse: +25.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{a}"], "compare takes two data sets, or one and --by PARAMETER=A,B"),
        (["{a}", "--by", "strategy=uffd_wait"], "give two values, as in --by strategy=uffd_wait,no_uffd_wait"),
        (["{a}", "--by", "strategy"], "give it as PARAMETER=VALUE"),
        (["{a}", "--by", "vcpus=2,8"], "no run has vcpus=8; there is: 2, 4"),
        (["{a}", "{a}", "--value", "speed"], "runs has no column 'speed'"),
        (["{a}", "{a}", "--where", "vcpus=3"], "no run has vcpus=3; there is: 2, 4"),
    ],
)
def test_what_cannot_be_compared_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    a = measured(tmp_path / "a", repeats=1)
    assert main(["compare", *(argument.format(a=a) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_sides_without_a_common_configuration_name_what_differs(tmp_path: Path) -> None:
    a, b = (measured(tmp_path / name, repeats=1, delay_us=delay) for name, delay in (("a", 0.0), ("b", 50.0)))
    with pytest.raises(
        DataSetError, match=r"delay_us is 0.0 in A and 50.0 in B \(if that is what you compare: --across delay_us\)"
    ):
        compare(Side("a", DataSet.existing(a).runs()), Side("b", DataSet.existing(b).runs()), "pages_per_s")


def test_rates_are_better_higher_and_times_lower() -> None:
    names = ("pages_per_s_net", "latency_p99_ns", "achieved_delay_us", "trips")
    assert [better(name) for name in names] == ["higher", "lower", "lower", ""]
