"""Spark reads a data set as it is. It needs Java, and is three times the size of everything else the tests install."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results.store.dataset import DataSet
from tests.results.rows import store

pytestmark = pytest.mark.soak
STARTED = datetime.datetime(2026, 11, 23, 21, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))


@pytest.fixture
def spark(tmp_path: Path) -> Iterator[Any]:
    """A session on this machine alone."""
    if shutil.which("java") is None:
        pytest.skip("Spark runs on Java: apt-get install openjdk-17-jre-headless")
    sql = pytest.importorskip("pyspark.sql", reason="`make soak` installs Spark: pip install pyspark")
    asked = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    asked = asked.config("spark.sql.session.timeZone", "UTC")
    asked = asked.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    session = asked.config("spark.sql.warehouse.dir", str(tmp_path)).config("spark.local.dir", str(tmp_path)).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


def test_spark_reads_every_table_and_sums_latencies_by_name(tmp_path: Path, spark: Any) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    store(dataset, "run-a", sweep_id="sweep-1", latencies_ns=[100, 200, 300], started_at=STARTED)
    store(dataset, "run-b", sweep_id="20261123-210500", latencies_ns=[40, 40], strategy="no_uffd_wait")
    for table in ("runs", "vcpus", "faults", "threads"):
        spark.read.parquet(str(tmp_path / "dataset" / table)).createOrReplaceTempView(table)
    by_strategy = spark.sql(
        """select strategy, sweep_id, kind, outcome, count(*), sum(resumed_ns - raised_ns)
           from faults join (select run_id, strategy from runs) using (run_id)
           group by all order by all"""
    ).collect()
    assert [tuple(row) for row in by_strategy] == [
        ("no_uffd_wait", "20261123-210500", "minor", "resolved", 1, 40),
        ("no_uffd_wait", "20261123-210500", "minor", "waited", 1, 40),
        ("uffd_wait", "sweep-1", "minor", "resolved", 2, 400),
        ("uffd_wait", "sweep-1", "minor", "waited", 1, 200),
    ]
    assert [tuple(row) for row in spark.sql("select cpus from vcpus where vcpu = 1").collect()] == [([0, 1],)] * 2
    assert spark.sql("select count(fetched_ns), count(*) from faults").collect()[0] == (0, 5)
    assert spark.sql("select max(user_ns) from threads where role = 'vcpu'").collect()[0][0] > 0
    started = spark.sql("select date_format(started_at, 'yyyy-MM-dd HH:mm') from runs where run_id = 'run-a'").collect()
    assert started[0][0] == "2026-11-23 19:05"
