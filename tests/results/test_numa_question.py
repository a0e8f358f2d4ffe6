"""The table of `experiment=numa`, from written rows."""

from __future__ import annotations

from pathlib import Path

from results.questions import answer
from results.store.dataset import DataSet
from tests.results.rows import store
from tests.results.test_questions import columns


def test_places_of_pages_and_threads_stand_beside_the_first_with_where_they_were_found(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    places = (
        ("node:0", "same_node", [100, 0], [0], [0], 1.0),
        ("node:1", "same_node", [1, 99], [0], [0], 2.0),
        ("node:0", "other_node", [100], [0], [1], 4.0),
        ("node:1", "other_node", [0, 0], [0], [1], 4.0),
    )
    for numa, placement, pages, vcpus, readers, seconds in places:
        found = {"page_nodes": pages, "vcpu_nodes": vcpus, "reader_nodes": readers}
        store(dataset, f"{numa[-1]}-{placement}", numa=numa, placement=placement, seconds=seconds, **found)
    table = columns(answer("numa", dataset))
    assert list(zip(table["numa"], table["placement"], strict=True)) == [place[:2] for place in places]
    assert table["pages on node 0,1,.."] == ["100%, 0%", "1%, 99%", "100%", "-"]
    assert (table["vCPUs on"], table["readers on"]) == (["0"] * 4, ["0", "0", "1", "1"])
    assert table["uffd_wait x base"] == ["1.00", "0.50", "0.25", "0.25"]
