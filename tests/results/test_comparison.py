"""Two sides compared cell by cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results.app import main
from results.commands.compare import NOT_JUDGED
from results.statistics.comparison import Cell, Side, better, compare
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from tests.results.printed import lines_of, unwrapped
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
    rows = [*lines_of(out, "uffd_wait"), *lines_of(out, "no_uffd_wait")]
    verdicts = {tuple(row[:2]): row[-2] for row in rows}
    assert verdicts == {
        ("uffd_wait", "2"): "no difference",
        ("uffd_wait", "4"): "no difference",
        ("no_uffd_wait", "2"): "no difference",
        ("no_uffd_wait", "4"): "worse: -20.0%",
    }
    assert "6 repeats a cell, fixed before looking; ratio of medians" in unwrapped(out)
    assert "1 worse, 3 no difference of 4 cells (higher is better)" in unwrapped(out)
    assert "corrected for 4 cells (Holm)" in unwrapped(out) and "93.8% coverage at 6 repeats" in unwrapped(out)


def test_fail_above_ends_with_1_beyond_it_and_with_0_below(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b", slower=1.25)
    assert main(["compare", a, b, "--fail-above", "10"]) == 1
    assert "failed: strategy=no_uffd_wait vcpus=4: -20.0%, B / A 0.8" in unwrapped(capsys.readouterr().out)
    assert main(["compare", a, b, "--fail-above", "30"]) == 0
    assert "no cell is worse by more than 30%" in unwrapped(capsys.readouterr().out)
    assert main(["compare", b, a, "--fail-above", "10"]) == 0  # better is no failure


def test_other_hosts_are_refused_with_the_field_that_differs_unless_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b", kernel="6.2.0", cpu_model="another")
    assert main(["compare", a, b]) == 2
    assert "kernel is 6.1.0 in A and 6.2.0 in B; to compare them all the same: --across kernel" in capsys.readouterr().err
    assert main(["compare", a, b, "--across", "kernel"]) == 2
    assert "cpu_model is None in A and another in B" in capsys.readouterr().err
    assert main(["compare", a, b, "--across", "kernel,cpu_model"]) == 0


def test_a_cell_with_fewer_repeats_than_were_planned_is_not_judged_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b", repeats=4)
    assert main(["compare", a, b]) == 0
    assert "B has 4 of 6 repeats that are ok" in unwrapped(capsys.readouterr().out)
    assert main(["compare", a, b, "--fail-above", "50"]) == 1
    capsys.readouterr()
    assert main(["compare", a, b, "--fail-above", "50", "--repeats", "4"]) == NOT_JUDGED
    assert "4 repeats can show no difference of 4 cells: it takes 5" in unwrapped(capsys.readouterr().out)
    assert (
        main(["compare", a, b, "--fail-above", "50", "--repeats", "4", "--where", "vcpus=2", "--where", "strategy=uffd_wait"])
        == 0
    )


def test_a_cell_that_lacks_one_repeat_is_not_judged(tmp_path: Path) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b", repeats=REPEATS - 1)
    assert {cell.undecided for cell in cells_of(a, b)} == {"B has 5 of 6 repeats that are ok"}


def test_configurations_of_one_side_only_are_counted_for_that_side(tmp_path: Path) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b")
    for number in range(3):
        config = json.dumps({"repeats": REPEATS, "strategy": {"name": "null"}, "vcpus": 2 + number})
        store(DataSet.open(b), f"more-{number}", strategy="null", vcpus=2 + number, config_json=config)
    sides = [Side(name, DataSet.existing(name).runs()) for name in (a, b)]
    assert [(found.only_a, found.only_b) for found in (compare(*sides, "pages_per_s"), compare(*sides[::-1], "pages_per_s"))] == [
        (0, 3),
        (3, 0),
    ]


def test_the_larger_of_both_plans_counts(tmp_path: Path) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b", repeats=8, planned=8)
    for sides, lacking in (((a, b), "A"), ((b, a), "B")):
        assert {cell.undecided for cell in cells_of(*sides)} == {f"{lacking} has 6 of 8 repeats that are ok"}


def test_a_cell_that_was_run_again_is_not_judged(tmp_path: Path) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b")
    store(DataSet.open(b), "again", sweep_id="sweep-2", strategy="uffd_wait", vcpus=2, config_json='{"repeats": 6, "vcpus": 2}')
    found = compare(Side("a", DataSet.existing(a).runs()), Side("b", DataSet.existing(b).runs()), "pages_per_s")
    assert [cell.undecided for cell in found.cells if cell.undecided] == [
        "B was run again (2 sweeps: sweep-1, sweep-2); choose one with --where sweep_id=..."
    ]


def test_two_values_of_a_parameter_are_paired_by_repeat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = measured(tmp_path / "a", slower=1.25, repeats=7, planned=7)
    assert main(["compare", a, "--by", "strategy=uffd_wait,no_uffd_wait"]) == 0
    out = capsys.readouterr().out
    assert "ratios within each repeat" in unwrapped(out)
    # Repeats differ by up to 6 %, pairs do not at all.
    assert "0.80 (0.80..0.80) worse: -20.0%" in unwrapped(out)
    assert main(["compare", a, "--by", "vcpus=2,4", "--value", "duration_s", "--where", "strategy=no_uffd_wait"]) == 0
    assert "worse: +25.0%" in unwrapped(capsys.readouterr().out)


def test_a_difference_that_too_few_repeats_cannot_show_is_inconclusive_and_the_output_names_how_many_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = measured(tmp_path / "a", slower=1.25)
    assert main(["compare", a, "--by", "strategy=uffd_wait,no_uffd_wait"]) == 0
    out = capsys.readouterr().out
    assert "0.80 (0.80..0.80) inconclusive" in unwrapped(out)
    assert "6 repeats can show no difference of 2 cells, however large: it takes 7" in unwrapped(out)


def test_the_smallest_change_that_the_repeats_could_have_shown_is_a_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b")
    assert main(["compare", a, b]) == 0
    # The interval of 6 repeats that take 1.00 to 1.05 s: 1/1.05..1.05 around 1.
    out = capsys.readouterr().out
    assert [row[-1] for row in (*lines_of(out, "uffd_wait"), *lines_of(out, "no_uffd_wait"))] == ["5.0%"] * 4


def cells_of(a: str, b: str, value: str = "pages_per_s", **options: Any) -> list[Cell]:
    return list(compare(Side("a", DataSet.existing(a).runs()), Side("b", DataSet.existing(b).runs()), value, **options).cells)


def test_repeats_beyond_those_that_count_enter_nothing(tmp_path: Path) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b")
    plain = cells_of(a, b)
    for repeat in (6, 7, 8):
        for path in (a, b):
            config = json.dumps({"repeats": REPEATS, "strategy": {"name": "uffd_wait"}, "vcpus": 2})
            store(
                DataSet.open(path),
                f"late-{repeat}",
                seconds=9.0 if path == b else 0.1,
                repeat=repeat,
                strategy="uffd_wait",
                vcpus=2,
                trusted=False,
                config_json=config,
            )
    assert cells_of(a, b) == plain
    runs = DataSet.existing(a).runs()
    sides = [Side(str(vcpus), [run for run in runs if run["vcpus"] == vcpus]) for vcpus in (2, 4)]
    assert {cell.ratio and cell.ratio.n for cell in compare(*sides, "pages_per_s", by="vcpus").cells} == {REPEATS}


def test_a_cell_with_a_null_or_a_zero_among_its_repeats_is_not_judged(tmp_path: Path) -> None:
    a, b = measured(tmp_path / "a", delay_ns=100, delays=1), measured(tmp_path / "b", delay_ns=120, delays=1)
    rows_a, rows_b = (DataSet.existing(path).runs() for path in (a, b))
    rows_b[0]["achieved_delay_us"] = None
    found = compare(Side("a", rows_a), Side("b", rows_b), "achieved_delay_us").cells
    assert sorted(cell.undecided for cell in found) == ["", "", "", "achieved_delay_us is null in 1 of 6 runs of B"]
    rows_a[0]["trips"] = 0
    for row in rows_a[1:] + rows_b:
        row["trips"] = 5
    found = compare(Side("a", rows_a), Side("b", rows_b), "trips").cells
    assert "trips is 0 in 1 of 6 runs of A, so there is no ratio" in [cell.undecided for cell in found]


def test_a_gate_sees_a_difference_where_no_direction_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, more in (("a", 100), ("more", 150), ("fewer", 50)):
        measured(tmp_path / name, trips=more, faults=1_000_000)
    a, more, fewer = (str(tmp_path / name) for name in ("a", "more", "fewer"))
    for other, word in ((more, "+50.0%"), (fewer, "-50.0%")):
        assert main(["compare", a, other, "--value", "trips", "--fail-above", "20"]) == 1
        out = capsys.readouterr().out
        assert out.count("failed: ") == 4 and word in out
        assert main(["compare", a, other, "--value", "trips", "--fail-above", "60"]) == 0
        assert "no cell is higher or lower by more than 60%" in unwrapped(capsys.readouterr().out)


def test_a_gate_below_the_margin_narrows_the_margin_and_one_within_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = measured(tmp_path / "a", trips=1000), measured(tmp_path / "b", trips=1030)
    assert main(["compare", a, b, "--value", "trips"]) == 0
    assert "4 no difference of 4 cells" in unwrapped(capsys.readouterr().out)
    assert main(["compare", a, b, "--value", "trips", "--fail-above", "2"]) == 1
    assert main(["compare", a, b, "--value", "trips", "--fail-above", "2", "--margin", "4"]) == 2
    assert "--margin 4 is above --fail-above 2" in capsys.readouterr().err


def test_a_gate_judges_no_cell_most_of_whose_runs_are_flagged_on_either_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b", slower=1.25, trusted=False)
    for sides in ((a, b), (b, a)):
        assert main(["compare", *sides, "--fail-above", "10"]) == NOT_JUDGED
        out = capsys.readouterr().out
        assert out.count("not judged: ") == 4 and "100% of one side's runs are flagged as noisy" in unwrapped(out)
        assert "failed" not in out
    c = measured(tmp_path / "c", slower=1.25, trusted=True)
    assert main(["compare", a, c, "--fail-above", "10"]) == 1


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


def test_a_99_9th_percentile_of_few_faults_is_not_compared() -> None:
    def side(name: str, fault_records: int) -> Side:
        run = {"status": "ok", "sweep_id": name, "latency_p999_ns": 1000, "latency_p99_ns": 900, "fault_records": fault_records}
        return Side(name, [run | {"repeat": repeat} for repeat in range(REPEATS)])

    [cell] = compare(side("a", 9_999), side("b", 10_000), "latency_p999_ns").cells
    assert cell.undecided == "latency_p999_ns is null in 6 of 6 runs of A (a 99.9th percentile takes 10000 recorded faults)"
    assert compare(side("a", 10_000), side("b", 10_000), "latency_p999_ns").judged
    assert compare(side("a", 50), side("b", 50), "latency_p99_ns").judged


@pytest.mark.parametrize(("flagged", "refused"), [(3, 0), (4, 1)])
def test_a_cell_is_judged_while_at_most_half_of_a_sides_runs_are_flagged(flagged: int, refused: int) -> None:
    def side(name: str, noisy: int) -> Side:
        run = {"status": "ok", "sweep_id": name, "pages_per_s": 100.0}
        return Side(name, [run | {"repeat": repeat, "trusted": repeat >= noisy} for repeat in range(REPEATS)])

    assert len(compare(side("a", 0), side("b", flagged), "pages_per_s").refused()) == refused
