"""What the tables of the experiments show of net figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results.questions import answer, names
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from tests.results.rows import store


@pytest.fixture
def dataset(tmp_path: Path) -> DataSet:
    return DataSet.open(str(tmp_path / "dataset"))


def test_cpu_time_stands_raw_and_net_in_every_table_that_shows_net(dataset: DataSet) -> None:
    for strategy in ("uffd_wait", "no_uffd_wait", "no_slow_gup"):
        common = {"mmap_writers": 0, "swapped_pages": 5, "pages": 10, "access_order": "sequential", "track_removes": False}
        options = json.dumps({"fault_around_pages": 1})
        axes = {"vcpus_per_vmm": 1, "uffds_per_vmm": 1, "readers": 1, "numa": "default", "placement": "same_node"}
        store(dataset, strategy, strategy=strategy, strategy_options=options, engine="thread", disturb="none", **axes, **common)
    nets = []
    for name in names():
        try:
            found = answer(name, dataset)
        except DataSetError:
            continue
        words = " ".join((*found.heads, *(row[0] for row in found.rows)))
        if "net" in words:
            nets.append(name)
            cpu = words.replace("CPU time a page, us, net", "net CPU us").replace("CPU time a page, us, raw", " CPU us")
            assert "net CPU us" in cpu and cpu.count("CPU us") > cpu.count("net CPU us"), name
    assert set(nets) >= {"exit_tradeoffs", "fault_around", "mmap_lock", "numa", "paging_rate", "sharing", "slow_gup_trip"}


def test_a_crossing_net_is_shown_where_every_repeat_has_a_net_rate(dataset: DataSet) -> None:
    for swapped, trip_s in ((0, 1.0), (1_000_000, 4.0)):
        for repeat in range(6):
            common = {"repeat": repeat, "pages": 1_000_000, "swapped_pages": swapped, "memory_type": "anon", "vcpus": 1}
            rate = {"rate_per_s": 5.0} if repeat == 3 and swapped else {}
            store(dataset, f"stays{swapped}-{repeat}", strategy="no_uffd_wait", seconds=1.5, **common)
            store(dataset, f"trips{swapped}-{repeat}", strategy="no_slow_gup", seconds=trip_s, **common, **rate)
    notes = answer("slow_gup_trip", dataset).notes
    assert any(note.startswith("raw: no_slow_gup falls behind") for note in notes)
    assert any(note.startswith("net, where slow GUP is the exit's: no_slow_gup and no_uffd_wait do not cross") for note in notes)
