"""Baselines, prefetch and experiments of the driver: planned, refused by text, swept in more than one set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from loadgen.config.validate import validate, validate_cells
from loadgen.doctor import matrix, reasons
from loadgen.errors import ConfigError
from loadgen.host.probe import Host
from loadgen.plan.plan import plan_run
from loadgen.run.run_row import describe

Configure = Callable[..., DictConfig]
ABSENT = "fault_mix=absent"
FILE_MAP = ("strategy=file_map", "source=file", ABSENT)


def test_a_strategy_that_maps_the_snapshot_has_the_file_for_its_memory(configure: Configure, host: Host) -> None:
    cfg = configure(*FILE_MAP, "sweep_id=s", "vcpus=2")
    validate(cfg, host)
    planned = plan_run(cfg, host)
    assert planned.spec.memory.type == "file"
    assert planned.spec.placement.reader_cpus == ()
    assert describe(planned)["memory_type"] == "file"
    assert json.loads(planned.config_json)["memory"]["type"] == "shmem"


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["strategy=file_map", ABSENT], "strategy file_map maps a snapshot file: use source=file"),
        ([*FILE_MAP, "memory=hugetlb", "memory.page_bytes=2097152"], "does not read memory.type=hugetlb: leave memory=shmem"),
        (
            ["strategy=file_map", "source=file", "fault_mix=mixed"],
            "so none is minor; use fault_mix=absent, with source.cache=warm",
        ),
        (["strategy=file_map", "source=file", "fault_mix=postcopy"], "has no userfaultfd to poison pages with"),
        (["strategy=eager", "fault_mix=swapped"], "strategy eager restores a guest, whose pages cannot be swapped out yet"),
        (["strategy=eager", "prefetch=order"], "under strategy eager the page server installs none: use prefetch=none"),
        (["strategy=null", "prefetch=order"], "under strategy null the page server installs none: use prefetch=none"),
        (["strategy=eager", "strategy.populate_pages=0"], "strategy.populate_pages=0 is too small: use at least 1"),
        (["prefetch.mib_per_s=5"], "prefetch.mib_per_s=5.0 is read only with prefetch=order or prefetch=working_set"),
        (["prefetch=order", "prefetch.working_set_file=x"], "is read only with prefetch=working_set"),
        (["prefetch=order", "prefetch.batch_pages=513"], "prefetch.batch_pages=513 is too large: use at most 512"),
        (["prefetch=order", "prefetch.mib_per_s=-1"], "prefetch.mib_per_s=-1 is too small: use at least 0"),
        (
            ["prefetch=working_set"],
            "prefetch.working_set_file is empty and has to name a file of page numbers, one a line: `loadgen-report working-set`",
        ),
        (["prefetch=working_set", "prefetch.working_set_file=/nowhere"], "/nowhere cannot be read: No such file"),
        (["prefetch.name=backwards"], "prefetch.name=backwards is unknown: use one of none, order, working_set"),
        (["question=weather"], "question=weather is unknown: use one of balloon_untracked, "),
    ],
)
def test_what_goes_wrong_is_said_with_what_to_do(configure: Configure, host: Host, overrides: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        cfg = configure(*overrides)
        validate(cfg, host)
        validate_cells([cfg])
    assert text in str(error.value)


def test_a_working_set_is_read_and_checked_against_the_region(configure: Configure, host: Host, tmp_path: Path) -> None:
    file = tmp_path / "pages"
    overrides = ("prefetch=working_set", f"prefetch.working_set_file={file}", "memory.region_mib=1", "sweep_id=s")
    file.write_text("3\n1\n2\n")
    validate(configure(*overrides), host)
    assert plan_run(configure(*overrides), host).spec.prefetch.pages == (3, 1, 2)
    for text, refusal in (("3\n256\n", "contains page 256 and the region has 256 pages"), ("3\nx\n", "is not a page number")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=refusal):
            validate(configure(*overrides), host)


def test_only_a_run_with_a_stream_has_its_columns(configure: Configure, host: Host) -> None:
    without, limited = (
        describe(plan_run(configure("sweep_id=s", *more), host)) for more in ([], ["prefetch=order", "prefetch.mib_per_s=7"])
    )
    assert without["prefetch"] == "none" and "prefetch_mib_per_s" not in without
    assert (limited["prefetch"], limited["prefetch_mib_per_s"], limited["prefetch_batch_pages"]) == ("order", 7.0, 16)


def test_the_doctor_has_one_line_a_strategy_and_one_a_reason(host: Host) -> None:
    lines = {name: cells for name, *cells in matrix(host)}
    assert lines["file_map"] == ["", "", "", "h-a--", "-"]
    assert lines["eager"][2] == "h-a--"
    assert lines["no_uffd_wait"][-1] == "userfaultfd, SIGBUS"
    [anon] = [where for reason, where in reasons(host).items() if "no page of it can be minor" in reason]
    assert "uffd_wait anon" in anon and len(anon) == len(set(anon))


def test_a_reader_is_planned_for_every_shard(configure: Configure, host: Host) -> None:
    spec = plan_run(configure("sweep_id=s", "vcpus=4", "vcpus_per_vmm=2", "uffds_per_vmm=3"), host).spec
    assert len(spec.placement.reader_cpus) == 2 * 3
    assert dataclasses.replace(spec).uffds_per_vmm == 3
