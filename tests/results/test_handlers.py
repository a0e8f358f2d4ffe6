"""The table of experiment=handler and the report's section, from runs made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.app import main
from results.derive.touched import touched
from results.questions import answer
from results.questions.handler import table_of
from results.store.dataset import DataSet
from results.summaries.handlers import served_by
from tests.results.printed import unwrapped
from tests.results.rows import store

HANDLER = {
    "page_server": "external",
    "handler": "/opt/handlers/lazy --socket {socket} --snapshot {snapshot} --ahead 4",
    "handler_cpu_s": 2.0,
    "handler_peak_bytes": 3 << 20,
    "handler_threads": 2,
    "handler_voluntary_switches": 900_000,
    "handler_involuntary_switches": 100_000,
    "pages_brought_ahead": 250_000,
    "pages_brought_untouched": 10,
}


@pytest.fixture
def dataset(tmp_path: Path) -> DataSet:
    made = DataSet.open(str(tmp_path / "dataset"))
    for repeat in (0, 1, 2):
        common = {"access_order": "sequential", "vcpus": 2, "repeat": repeat, "latencies_ns": [4000, 8000]}
        store(made, f"ours{repeat}", page_server="own", prefetch="none", seconds=1.0, **common)
        store(made, f"ahead{repeat}", page_server="own", prefetch="order", seconds=0.5, **common)
        store(made, f"map{repeat}", page_server="own", strategy="file_map", seconds=0.25, **common)
        store(made, f"lazy{repeat}", seconds=2.0, **common, **HANDLER)
    return made


def test_handlers_are_compared_with_ours_and_with_a_mapped_file(dataset: DataSet) -> None:
    answered = answer("handler", dataset)
    rows = {row[2]: dict(zip(answered.heads, row, strict=True)) for row in answered.rows}
    assert {name: row["x ours"] for name, row in rows.items()} == {
        "lazy --ahead 4": "0.50",
        "ours": "1.00",
        "ours prefetch=order": "2.00",
        "file_map": "4.00",
    }
    lazy = rows["lazy --ahead 4"]
    assert (lazy["CPU us"], lazy["switches"], lazy["MiB"], lazy["threads"]) == ("2.0", "1.00", "3.0", "2")
    assert (lazy["ahead"], lazy["untouched"], lazy["runs"]) == ("250000", "10", "3")
    assert (rows["ours"]["CPU us"], rows["ours"]["ahead"]) == ("-", "-")


VCPUS = [
    {"start_ns": 1_000_000, "mark_ns": [3_000_000, 4_000_000], "mark_pages": [2, 5], "longest_fault_ns": 30_000},
    {"start_ns": 2_000_000, "mark_ns": [9_000_000], "mark_pages": [5], "longest_fault_ns": 40_000},
]


def test_times_until_shares_of_the_pages_were_touched_count_from_the_first_start(dataset: DataSet) -> None:
    [half, most, whole, stall] = touched({"page_server": "external"}, VCPUS).values()
    assert (half, most, whole, stall) == (3_000_000, 8_000_000, 8_000_000, 40_000)
    assert set(touched({"page_server": "own"}, VCPUS).values()) == {None}
    assert set(touched({"page_server": "external"}, [*VCPUS, {"start_ns": None}]).values()) == {None}
    runs = dataset.runs()
    answered = table_of(runs, {run["run_id"]: VCPUS for run in runs})
    shown = [dict(zip(answered.heads, row, strict=True)) for row in answered.rows]
    assert {tuple(row[head] for head in ("50 % ms", "90 % ms", "100 % ms", "stall ms")) for row in shown} == {
        ("3.00", "8.00", "8.00", "0.04")
    }


def test_a_handler_is_named_by_its_command_without_folders_and_places() -> None:
    named = {
        "/opt/a/uffd_handler {socket} {snapshot}": "uffd_handler",
        "loadgen-serve --socket {socket} --snapshot {snapshot} --prefetch order": "loadgen-serve --prefetch order",
        "sh -c 'exec x'": "sh -c exec x",
        "/run/handler.sock": "handler.sock",
        "broken 'quote": "broken 'quote",
    }
    assert {command: served_by({"page_server": "external", "handler": command}) for command in named} == named


def test_the_report_has_a_section_of_handlers_only_where_there_are_some(dataset: DataSet, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert main(["report", "--out", str(page), dataset.uri]) == 0
    assert 'id="handlers"' in page.read_text() and "lazy --ahead 4" in page.read_text()
    assert "all of a fault&#39;s time counts as resume" in page.read_text()
    plain = DataSet.open(str(tmp_path / "plain"))
    store(plain, "one", latencies_ns=[4000, 8000])
    assert main(["report", "--out", str(page), plain.uri]) == 0
    assert 'id="handlers"' not in page.read_text() and "counts as resume" not in page.read_text()


def test_stages_of_an_external_handler_are_said_not_to_be_visible(dataset: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    note = "of an external handler the stages between are not visible"
    assert main(["stages", dataset.uri]) == 0
    assert note in unwrapped(capsys.readouterr().out)
    assert main(["stages", dataset.uri, "--where", "page_server=own"]) == 0
    assert note not in unwrapped(capsys.readouterr().out)
