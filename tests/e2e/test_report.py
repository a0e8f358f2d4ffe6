"""The report commands on a real sweep."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from results.figures import us
from results.store.dataset import DataSet
from results.tables.fault_tables import fault_groups
from tests.e2e.command import run
from tests.e2e.conftest import Sweep
from tests.results.chromium import NEEDS_BROWSER, visit
from tests.results.printed import unwrapped
from tests.results.test_report import MARKS


def test_a_real_sweep_agrees_with_itself(sweep: Sweep) -> None:
    done = run(sweep.folder, "loadgen-report", "verify", "outputs/dataset")
    assert (done.stdout, done.returncode) == ("16 runs, everything agrees\n", 0)


def test_the_stages_of_every_real_fault_sum_to_its_latency(sweep: Sweep) -> None:
    faults = f"read_parquet('{sweep.folder}/outputs/dataset/faults/**/*.parquet')"
    # As documented: a missing stage has no length, and the wake-up comes from within the resolving call.
    query = f"""
        with stamps as (
            select raised_ns as raised, resumed_ns as resumed,
                   least(greatest(coalesce(delivered_ns, 0), raised_ns), resumed_ns) as delivered,
                   least(greatest(coalesce(fetched_ns, 0), coalesce(delivered_ns, 0), raised_ns), resumed_ns) as fetched,
                   least(greatest(coalesce(installed_ns, 0), coalesce(fetched_ns, 0), coalesce(delivered_ns, 0), raised_ns),
                         resumed_ns) as installed
            from {faults})
        select avg(delivered - raised), avg(fetched - delivered), avg(installed - fetched), avg(resumed - installed),
               avg(resumed - raised) from stamps"""
    [(*parts, latency)] = duckdb.sql(query).fetchall()
    assert sum(parts) == pytest.approx(latency)
    dataset = DataSet.existing(f"{sweep.folder}/outputs/dataset")
    digests = fault_groups(dataset, dataset.runs(), ("engine",)).digests.values()
    assert sum(digest.faults for digest in digests) == 16 * 1024
    for part, mean in enumerate(parts):
        assert sum(digest.faults * digest.mean_part_ns[part] for digest in digests) / (16 * 1024) == pytest.approx(mean, abs=60)
    done = run(sweep.folder, "loadgen-report", "stages", "outputs/dataset", "--by", "engine")
    assert all(us(mean) in done.stdout for digest in digests for mean in digest.mean_part_ns)


def test_a_strategy_is_compared_with_another_in_one_command(sweep: Sweep) -> None:
    done = run(sweep.folder, "loadgen-report", "compare", "outputs/dataset", "--by", "strategy=uffd_wait,no_slow_gup")
    assert done.returncode == 0, done.stderr
    assert "A is strategy=uffd_wait, B is strategy=no_slow_gup; 2 repeats a cell" in unwrapped(done.stdout)
    assert "4 inconclusive of 4 cells" in done.stdout


@NEEDS_BROWSER
def test_the_report_on_a_real_sweep_is_drawn_by_a_real_browser(sweep: Sweep, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = run(sweep.folder, "loadgen-report", "report", "outputs/dataset", "--out", str(page))
    assert done.returncode == 0, done.stderr
    command = (
        "loadgen -m strategy=uffd_wait,no_slow_gup vcpus=1,2 fault_mix=minor,absent memory.region_mib=4 repeats=2 measure_s=0"
    )
    assert f"<pre>{command}</pre>" in page.read_text()
    seen = visit(page, MARKS)
    assert seen.said == [] and seen.console == []
    assert [plot["plot"] for plot in seen.answer] == ["scaling", "crossover0", "latency", "stages", "outcomes", "locality"]
    assert all(plot["drawn"] == plot["series"] > 0 for plot in seen.answer)
