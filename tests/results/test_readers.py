"""A data set is read as it is by the tools people have."""

from __future__ import annotations

import datetime
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from results.schema import COLUMNS
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from tests.results.rows import store

STARTED = datetime.datetime(2026, 11, 23, 21, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
STARTED_UTC = datetime.datetime(2026, 11, 23, 19, 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sweeps of one run each: three faults of 100, 200 and 300 ns, and two of 40 ns."""
    dataset = DataSet.open(str(tmp_path / "dataset"))
    store(dataset, "run-a", sweep_id="sweep-1", latencies_ns=[100, 200, 300], started_at=STARTED)
    store(dataset, "run-b", sweep_id="20261123-210500", latencies_ns=[40, 40], strategy="no_uffd_wait")
    return tmp_path / "dataset"


def test_duckdb_reads_every_table_and_sums_latencies_by_name(folder: Path) -> None:
    by_run = duckdb.execute(
        f"""select strategy, r.sweep_id, kind, outcome, count(*), sum(resumed_ns - raised_ns)
            from '{folder}/faults/**/*.parquet' f join '{folder}/runs/**/*.parquet' r using (run_id)
            group by all order by all"""
    ).fetchall()
    assert by_run == [
        ("no_uffd_wait", "20261123-210500", "minor", "resolved", 1, 40),
        ("no_uffd_wait", "20261123-210500", "minor", "waited", 1, 40),
        ("uffd_wait", "sweep-1", "minor", "resolved", 2, 400),
        ("uffd_wait", "sweep-1", "minor", "waited", 1, 200),
    ]
    whole_rows = duckdb.execute(f"select * from '{folder}/runs/**/*.parquet' where run_id = 'run-a'").fetchall()
    assert STARTED_UTC in whole_rows[0]
    assert duckdb.execute(f"select cpus from '{folder}/vcpus/**/*.parquet' where vcpu = 1").fetchall() == [([0, 1],)] * 2
    busiest = (
        f"select role, number, cpus from '{folder}/threads/**/*.parquet' where run_id = 'run-a' order by user_ns desc limit 1"
    )
    assert duckdb.execute(busiest).fetchall() == [("vcpu", 0, [0])]
    nulls = duckdb.execute(f"select count(fetched_ns), count(delivered_ns) from '{folder}/faults/**/*.parquet'").fetchall()
    assert nulls == [(0, 5)]


def test_polars_reads_every_table_and_joins_them(folder: Path) -> None:
    runs, faults = pl.read_parquet(folder / "runs"), pl.read_parquet(folder / "faults")
    assert faults.height == 5
    assert faults["fetched_ns"].null_count() == 5
    summed = (
        faults.join(runs, on="run_id").group_by("strategy").agg((pl.col("resumed_ns") - pl.col("raised_ns")).sum().alias("ns"))
    )
    assert dict(summed.iter_rows()) == {"uffd_wait": 600, "no_uffd_wait": 80}
    assert faults.filter(pl.col("outcome") == "waited").height == 2
    assert runs.filter(pl.col("sweep_id") == "sweep-1")["started_at"].to_list() == [STARTED_UTC]
    assert pl.read_parquet(f"{folder}/vcpus/**/*.parquet")["pages_resolved"].sum() == 2_000_000
    assert pl.read_parquet(folder / "threads").filter(pl.col("role") == "vcpu")["cpus"].to_list() == [[0], [1]] * 2


def test_pandas_reads_every_table_and_merges_them(folder: Path) -> None:
    runs, faults = pd.read_parquet(folder / "runs"), pd.read_parquet(folder / "faults")
    assert sorted(runs["sweep_id"]) == ["20261123-210500", "sweep-1"]
    merged = faults.merge(runs, on="run_id")
    latency = (merged["resumed_ns"] - merged["raised_ns"]).groupby(merged["strategy"]).sum()
    assert latency.to_dict() == {"uffd_wait": 600, "no_uffd_wait": 80}
    assert (faults["kind"] == "minor").all()
    assert faults["fetched_ns"].isna().all()
    assert pd.read_parquet(folder / "vcpus")["pages_resolved"].sum() == 2_000_000
    assert pd.read_parquet(folder / "threads").groupby("role")["user_ns"].sum().to_dict() == {"driver": 1_000, "vcpu": 60_000}


@pytest.mark.parametrize("partitioning", [None, "hive"])
@pytest.mark.parametrize("table", list(COLUMNS))
def test_pyarrow_opens_every_table_with_and_without_hive_partitioning(folder: Path, table: str, partitioning: str | None) -> None:
    opened = pyarrow.dataset.dataset(folder / table, partitioning=partitioning)
    assert opened.schema.field("sweep_id").type == pa.string()
    mine = opened.to_table(filter=pyarrow.dataset.field("sweep_id") == "sweep-1")
    assert set(mine["run_id"].to_pylist()) == {"run-a"}
    assert set(pq.read_table(folder / table)["sweep_id"].to_pylist()) == {"20261123-210500", "sweep-1"}
    assert set(pd.read_parquet(folder / table, filters=[("sweep_id", "==", "sweep-1")])["run_id"]) == {"run-a"}
    assert pl.scan_parquet(folder / table, hive_partitioning=True).collect()["sweep_id"].n_unique() == 2


@pytest.mark.parametrize("sweep_id", ["20261123", "2026-11-23", "0x10", "Infinity"])
def test_a_sweep_id_that_readers_would_take_for_a_number_or_date_is_refused(tmp_path: Path, sweep_id: str) -> None:
    with pytest.raises(ValueError, match="readers would take the folder's name for a number or a date"):
        DataSet.open(str(tmp_path)).writer("run-a", sweep_id)


@pytest.mark.parametrize("below", ["host=vm1/vcpus=16/dataset", "vcpus=16", "deep/strategy=x/y/z"])
def test_a_data_set_below_folders_that_readers_take_for_columns_is_refused_with_the_reason(tmp_path: Path, below: str) -> None:
    with pytest.raises(DataSetError, match=r"its folder '\w+=\w+' looks like a partition: DuckDB and others would read a column"):
        DataSet.open(str(tmp_path / below))
    assert not (tmp_path / below).exists()
    with pytest.raises(DataSetError, match="looks like a partition"):
        DataSet.open(f"file://{tmp_path}/{below}")
