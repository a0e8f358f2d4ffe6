"""Where a fault's time goes: parts that sum to its latency, added up over runs without being kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.app import main
from results.derive import histogram
from results.derive.stages import PARTS, parts
from results.schema import STAGES_NS
from results.store.dataset import DataSet
from results.summaries.fault_digest import FaultDigest, digest_of_run, digests
from results.tables.fault_tables import fault_groups
from tests.results.printed import lines_of
from tests.results.rows import FAULT_DTYPE, KINDS, OUTCOMES, run_row, store, vcpu_rows


def times(*rows: tuple[int, int, int, int, int]) -> dict[str, np.ndarray]:
    columns = zip(*rows, strict=True)
    names = ("raised_ns", "delivered_ns", "fetched_ns", "installed_ns", "resumed_ns")
    return {name: np.array(column, np.int64) for name, column in zip(names, columns, strict=True)}


def test_each_part_goes_from_one_stage_to_the_next() -> None:
    assert [int(part[0]) for part in parts(times((100, 110, 130, 160, 200)))] == [10, 20, 30, 40]


def test_a_stage_that_did_not_happen_leaves_its_time_to_the_next_there_is() -> None:
    assert [int(part[0]) for part in parts(times((100, 0, 0, 0, 200)))] == [0, 0, 0, 100]
    assert [int(part[0]) for part in parts(times((100, 110, 0, 160, 200)))] == [10, 0, 50, 40]


def test_a_vcpu_that_is_done_before_the_call_has_returned_ends_the_installation() -> None:
    assert [int(part[0]) for part in parts(times((100, 110, 120, 250, 200)))] == [10, 10, 80, 0]


@given(st.lists(st.tuples(*[st.integers(1, 10**6) for _ in range(2)], *[st.integers(0, 10**6) for _ in range(3)]), min_size=1))
def test_the_parts_sum_to_the_latency_and_none_is_negative_whatever_the_stamps(rows: list[tuple[int, ...]]) -> None:
    # (begin, length, three stamps in any order, before, between and after both, or absent)
    stamps = times(*[(begin, *stages, begin + length) for begin, length, *stages in rows])  # type: ignore[arg-type]
    lengths = parts(stamps)
    assert (np.sum(lengths, axis=0) == stamps["resumed_ns"] - stamps["raised_ns"]).all()
    assert all((length >= 0).all() for length in lengths)


@pytest.fixture
def dataset(tmp_path: Path) -> DataSet:
    """Two runs with random stamps and kinds, some faults unfinished, some stages absent."""
    dataset = DataSet.open(str(tmp_path / "dataset"))
    rng = np.random.default_rng(2)
    for number in range(2):
        faults = np.zeros(5000, FAULT_DTYPE)
        at = rng.integers(10**15, 2 * 10**15, len(faults)).astype(np.uint64)
        for stage in STAGES_NS[1:]:
            faults[stage] = at
            at = at + rng.integers(1, 50_000, len(faults)).astype(np.uint64)
        faults["fetched_ns"][rng.random(len(faults)) < 0.3] = 0
        faults["resumed_ns"][:7] = 0
        faults["intended_ns"][1000:] = faults["raised_ns"][1000:] - np.uint64(500)
        faults["kind"] = rng.integers(0, len(KINDS), len(faults))
        faults["outcome"] = rng.integers(0, len(OUTCOMES), len(faults))
        with dataset.writer(f"run-{number}", "sweep-1") as writer:
            for chunk in np.split(faults, [1200, 3000]):
                writer.faults(KINDS, OUTCOMES).add(np.zeros(len(chunk), np.uint16), chunk)
            writer.commit(run_row(repeat=number), vcpu_rows(1.0))
    return dataset


def test_a_digest_says_the_same_as_all_faults_at_once(dataset: DataSet) -> None:
    runs = dataset.runs()
    total: dict[str, FaultDigest] = {}
    for found in digests(dataset, runs):
        for kind, digest in found.items():
            total.setdefault(kind, FaultDigest()).add(digest)
    frame = dataset.read("faults").to_pandas()
    frame["latency"] = frame["resumed_ns"] - frame["raised_ns"]
    assert set(total) == set(frame["kind"])
    for kind, digest in total.items():
        mine = frame[frame["kind"] == kind]
        assert digest.faults == len(mine) and digest.finished == mine["latency"].count()
        assert dict(digest.outcomes) == mine["outcome"].value_counts().loc[lambda n: n > 0].to_dict()
        assert digest.part_ns.sum() == mine["latency"].sum()
        assert sum(digest.mean_part_ns) == pytest.approx(mine["latency"].mean())
        assert digest.latency.sum() == mine["latency"].count()
        assert digest.open_latency.sum() == (mine["intended_ns"].notna() & mine["resumed_ns"].notna()).sum()
        for rank in (500, 990, 999):
            exact = [
                np.quantile(mine[mine["run_id"] == run["run_id"]]["latency"].dropna(), rank / 1000, method="inverted_cdf")
                for run in runs
            ]
            assert digest.exact[rank] == (exact if rank < 999 else [])  # few faults have no 99.9th percentile
    limit = {run["run_id"]: run["latency_p99_ns"] for run in runs}
    slow = frame[frame["latency"] >= frame["run_id"].astype(str).map(limit)]
    assert sum(digest.slow for digest in total.values()) == len(slow)
    assert sum(int(digest.slow_part_ns.sum()) for digest in total.values()) == slow["latency"].sum()


def test_faults_are_grouped_by_any_parameter(dataset: DataSet) -> None:
    groups = fault_groups(dataset, dataset.runs(), ("repeat",))
    assert {values for values, _ in groups.digests} == {(0,), (1,)}
    assert sum(digest.faults for digest in groups.digests.values()) == 10_000


def test_a_run_without_faults_has_no_digest() -> None:
    assert digest_of_run([], None) == {}


def test_percentiles_of_the_median_run_and_of_all_runs_pooled_differ_and_are_both_there(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for repeat, slow_ns in enumerate((2_000, 2_000, 90_000)):
        store(dataset, f"run-{repeat}", repeat=repeat, latencies_ns=[1000] * 9_800 + [slow_ns] * 200)
    total = FaultDigest()
    for found in digests(dataset, dataset.runs()):
        total.add(found["minor"])
    assert (total.exact_median(990), total.exact_median(999)) == (2_000, 2_000)
    assert total.pooled(500) == pytest.approx(1_000, rel=0.016)
    assert total.pooled(999) == pytest.approx(90_000, rel=0.016)
    assert FaultDigest().pooled(500) is None


def test_the_command_prints_parts_percentiles_and_humps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    dataset = DataSet.open(str(tmp_path))
    humps = [1000] * 300 + [9000] * 200
    store(dataset, "run-a", latencies_ns=humps)
    store(dataset, "run-b", latencies_ns=humps, strategy="no_uffd_wait", sample_every=8)
    assert main(["stages", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("all rows: kind minor")
    [cells, *_] = lines_of(out, "uffd_wait")
    assert cells[:2] == ["uffd_wait", "500"] and cells[-2:] == ["9.0", "resume 100%"]
    assert cells[2 : 2 + len(PARTS) + 3] == ["0.0", "0.0", "0.0", "4.2", "4.2", "1.0", "9.0"]
    assert "uffd_wait minor: bimodal: 60% at 1 us, 40% at 9" in out
    assert "of some runs only every 8th fault was stored" in out
    assert main(["stages", str(tmp_path), "--by", "speed"]) == 2
    assert "runs has no column 'speed'" in capsys.readouterr().err


def test_a_pooled_99_9th_percentile_takes_ten_thousand_faults() -> None:
    for faults in (9_999, 10_000):
        digest = FaultDigest(finished=faults, latency=histogram.count(np.full(faults, 1000)))
        assert (digest.pooled(999) is not None) == (faults == 10_000)
        pooled = digest.pooled(990)
        assert pooled is not None and 1000 <= pooled <= 1016


def test_rows_of_flagged_runs_are_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = DataSet.open(str(tmp_path / "noisy"))
    store(dataset, "run-a", latencies_ns=[100], trusted=True)
    store(dataset, "run-b", latencies_ns=[100], repeat=1, trusted=False, distrust="status poll late (0.8 s)")
    store(dataset, "run-c", latencies_ns=[100], strategy="no_uffd_wait", trusted=True)
    assert main(["stages", dataset.uri, "--by", "strategy"]) == 0
    out = capsys.readouterr().out
    assert [lines_of(out, name)[0][1] for name in ("uffd_wait", "no_uffd_wait")] == ["1 of 2", "-"]
    assert main(["stages", dataset.uri, "--by", "strategy", "--trusted-only"]) == 0
    assert "noisy" not in capsys.readouterr().out


def test_a_pooled_percentile_is_at_most_a_bin_above_the_exact_one() -> None:
    digest = FaultDigest(finished=3)
    digest.latency += histogram.count(np.array([100, 1000, 1000]))
    assert 1000 < (digest.pooled(500) or 0) <= 1000 * 1.016
    assert 100 < (digest.pooled(300) or 0) <= 102
