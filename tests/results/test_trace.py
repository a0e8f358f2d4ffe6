"""Trace files: what is read, what is refused and by which line, and `loadgen-report trace`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.app import main
from results.store.dataset import DataSet
from results.store.trace_file import Trace, TraceError, read_trace, write_trace
from tests.results.rows import store


def columns(trace: Trace) -> dict[str, list[int]]:
    return {name: values.tolist() for name in ("time_ns", "page", "write", "vcpu") if len(values := getattr(trace, name))}


def test_a_parquet_trace_comes_back_as_it_was_written_and_without_what_was_not_recorded(tmp_path: Path) -> None:
    whole = {"time_ns": [0, 5, 9], "page": [4, 2, 4], "write": [True, False, True], "vcpu": [1, 0, 1]}
    write_trace(str(tmp_path / "whole"), Trace.of(whole))
    assert columns(read_trace(str(tmp_path / "whole"))) == whole
    write_trace(str(tmp_path / "pages"), Trace.of({"page": [3, 1]}))
    assert columns(read_trace(str(tmp_path / "pages"))) == {"page": [3, 1]}


def test_a_csv_trace_has_its_columns_in_any_order_comments_and_words_for_writes(tmp_path: Path) -> None:
    text = "# of a guest\nvcpu,page,write,time_ns\n0,7,r,100 # first\n\n1, 8, W, 250\n0,9,1,300\n"
    (tmp_path / "csv").write_text(text)
    assert columns(read_trace(str(tmp_path / "csv"))) == {
        "time_ns": [0, 150, 200],
        "page": [7, 8, 9],
        "write": [False, True, True],
        "vcpu": [0, 1, 0],
    }


def test_a_csv_file_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "csv").write_bytes(b'\xef\xbb\xbf"page","write"\r\n"7","w"\r\n8,"0"\r\n')
    assert columns(read_trace(str(tmp_path / "csv"))) == {"page": [7, 8], "write": [True, False]}


def test_accesses_are_put_in_the_order_of_their_times(tmp_path: Path) -> None:
    (tmp_path / "csv").write_text("time_ns,page\n30,3\n10,1\n20,2\n10,4\n")
    assert columns(read_trace(str(tmp_path / "csv"))) == {"time_ns": [0, 0, 10, 20], "page": [1, 4, 2, 3]}


def test_a_plain_list_has_one_or_more_pages_a_line(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# pages\n5 3\n\n5 # again\n")
    assert columns(read_trace(str(tmp_path / "list"))) == {"page": [5, 3, 5]}
    (tmp_path / "empty").write_text("# nothing\n")
    assert columns(read_trace(str(tmp_path / "empty"))) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\ntwo\n", "line 2: 'two' is not a page number"),
        ("1\n4294967296\n", "line 2: page 4294967296 is more than 4294967295"),
        ("time_ns,vcpu\n1,2\n", "line 1: 'time_ns,vcpu' is not a page number, and no head with a column page"),
        ("# a\npage,cpu\n1,2\n", "line 2: column 'cpu' is unknown: use time_ns, page, write, vcpu"),
        ("page,page\n", "line 1: column page is there twice"),
        ("page,write\n1,0\n2\n", "line 3: 1 values under 2 heads"),
        ("page,write\n1,2\n", "line 2: write 2 is more than 1"),
        ("page,write\n1,x\n", "line 2: 'x' is not a write"),
        ("page,vcpu\n1,65536\n", "line 2: vcpu 65536 is more than 65535"),
        ("page,time_ns\n1,-3\n", "line 2: '-3' is not a time_ns"),
        ("PAR1 and no more", "not a readable Parquet file"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(TraceError) as refused:
        read_trace(str(tmp_path / "file"))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"pages": [1]}, "no column page; it has: pages"),
        ({"page": ["a"]}, "column page is of type string and has to hold integers"),
        ({"page": [1, None]}, "row 1: no page"),
        ({"page": [1, -2]}, "row 1: page -2 is not between 0 and 4294967295"),
        ({"page": [1, 2], "vcpu": [0, 70000]}, "row 1: vcpu 70000 is not between 0 and 65535"),
    ],
)
def test_a_parquet_file_that_is_no_trace_is_refused_by_its_row(tmp_path: Path, table: dict[str, list[object]], said: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "file")
    with pytest.raises(TraceError) as refused:
        read_trace(str(tmp_path / "file"))
    assert said in str(refused.value)


def test_the_command_writes_the_faults_of_a_run_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    store(dataset, "run-a", latencies_ns=[100, 200, 300])
    out = str(tmp_path / "trace.parquet")
    assert main(["trace", "--run", "run-a", "--out", out, dataset.uri]) == 0
    assert capsys.readouterr().err == f"3 faults of 2 vCPUs in 0.000 s of run run-a in {out}\n"
    assert columns(read_trace(out)) == {"time_ns": [0, 1000, 2000], "page": [0, 1, 2], "vcpu": [0, 1, 0]}


@pytest.mark.parametrize(
    ("values", "asked", "said"),
    [
        ({"latencies_ns": [1], "sample_every": 2}, [], "kept only some of its faults: run it with a larger faults_limit"),
        ({"latencies_ns": [1], "guests": 2}, [], "is of 2 guests, and a trace is of one"),
        ({"latencies_ns": [1]}, ["--round", "3"], "has no fault in round 3"),
        ({}, [], "has no fault in round 0"),
    ],
)
def test_the_command_refuses_a_run_that_makes_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: dict[str, object], asked: list[str], said: str
) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    store(dataset, "run-a", **values)  # type: ignore[arg-type]
    assert main(["trace", "--run", "run-a", *asked, "--out", str(tmp_path / "trace"), dataset.uri]) == 2
    assert said in capsys.readouterr().err
