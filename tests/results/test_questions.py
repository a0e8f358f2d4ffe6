"""The tables of the experiments, from runs made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from results.location import DataSetError
from results.published import PAGING_RATE
from results.questions import Answer, answer, names
from results.report_cli import main
from results.store import DataSet
from tests.results.rows import store

PAGES = 16384


def columns(answered: Answer) -> dict[str, list[str]]:
    return {head: [row[number] for row in answered.rows] for number, head in enumerate(answered.heads)}


@pytest.fixture
def dataset(tmp_path: Path) -> DataSet:
    return DataSet.open(str(tmp_path / "dataset"))


def test_an_unknown_question_is_answered_with_those_there_are(dataset: DataSet) -> None:
    with pytest.raises(DataSetError, match=r"there is no question weather: use one of .*paging_rate"):
        answer("weather", dataset)


def test_every_question_says_which_command_measures_what_it_lacks(dataset: DataSet) -> None:
    for name in names():
        with pytest.raises(DataSetError, match=f"loadgen experiment={name}"):
            answer(name, dataset)


def test_the_paging_rate_stands_beside_the_published_one(dataset: DataSet) -> None:
    for repeat, seconds in enumerate((2.0, 4.0, 8.0)):
        for strategy, times in (("uffd_wait", 1.0), ("no_uffd_wait", 3.0)):
            store(
                dataset,
                f"{strategy}{repeat}",
                repeat=repeat,
                seconds=seconds / times,
                strategy=strategy,
                vcpus=4,
                pages=PAGES,
            )
    table = columns(answer("paging_rate", dataset))
    assert table["vcpus"] == [str(vcpus) for vcpus in PAGING_RATE]
    four = table["vcpus"].index("4")
    assert (table["published wait"][four], table["published exit"][four], table["exit/wait"][four]) == ("210", "809", "3.85")
    assert (table["uffd_wait"][four], table["no_uffd_wait"][four], table["no_uffd_wait/wait"][four]) == ("250.0", "750.0", "3.00")
    assert table["MiB a vCPU"][four] == "16*"
    assert table["uffd_wait"].count("-") == len(PAGING_RATE) - 1


def test_less_memory_than_published_is_said_below_the_table(dataset: DataSet) -> None:
    store(dataset, "large", vcpus=1, pages=PAGES)
    assert not any("less memory" in note for note in answer("paging_rate", dataset).notes)
    store(dataset, "small", vcpus=2, pages=PAGES)
    assert any("* less memory than the 64 MiB a vCPU" in note for note in answer("paging_rate", dataset).notes)


def test_the_published_rates_peak_at_four_vcpus_and_fall() -> None:
    waiting = [rate.wait_kpages_per_s for rate in PAGING_RATE.values()]
    assert max(waiting) == waiting[2]
    assert math.isclose(PAGING_RATE[256].exit_to_wait, 111.4, abs_tol=0.1)


def test_the_command_prints_an_answer(dataset: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    store(dataset, "one", vcpus=1, pages=PAGES)
    assert main(["answer", "paging_rate", dataset.uri]) == 0
    assert "published wait" in capsys.readouterr().out
    assert main(["answer", "weather", dataset.uri]) == 2
    assert "there is no question weather" in capsys.readouterr().err


def test_the_extra_trip_of_a_swapped_page_is_told_raw_and_net_with_the_share_where_the_strategies_cross(dataset: DataSet) -> None:
    for swapped, trip_s in ((0, 1.0), (500_000, 2.0), (1_000_000, 4.0)):
        for repeat in range(6):
            common = {"repeat": repeat, "pages": 1_000_000, "swapped_pages": swapped, "memory_type": "anon", "vcpus": 1}
            store(dataset, f"stays{swapped}-{repeat}", strategy="no_uffd_wait", seconds=1.5, **common)
            exits = {"trips": 1_000_000, "emulated_exit_ns": 500.0}
            store(dataset, f"trips{swapped}-{repeat}", strategy="no_slow_gup", seconds=trip_s, **common, **exits)
    answered = answer("slow_gup_trip", dataset)
    table = columns(answered)
    assert table["swapped share"] == ["0.00", "0.50", "1.00"]
    assert table["no_slow_gup"] == ["1000.0", "500.0", "250.0"]
    assert table["no_slow_gup net"] == ["2000.0", "666.7", "285.7"]
    assert table["extra ns a fault"] == ["-500", "500", "2500"]
    assert table["extra ns a fault net"] == ["-1000", "0", "2000"]
    [crossing] = [note for note in answered.notes if note.startswith("raw:")]
    # The ratio falls from 1.5 to 0.75 over the first half: it is 1 where log(1.5) of log(2) is spent.
    assert crossing == f"raw: no_slow_gup falls behind no_uffd_wait at a share of about {0.5 * math.log(1.5) / math.log(2):.2f}"
