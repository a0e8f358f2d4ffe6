"""A real guest's memory file through the driver and Ray: a handler that runs already serves it, and so does our page server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from results.store.dataset import DataSet
from results.verify.verification import verify
from tests import foreign_snapshot, needs
from tests.e2e import events
from tests.e2e.conftest import Start
from tests.e2e.in_session import Bench
from tests.e2e.stored import rows
from tests.peers.build import peer
from tests.wait import wait_for
from workers.external.processes import listens_at

MIB = 2
PAGES = MIB * 256
GUEST = ("fault_mix=absent", f"memory.region_mib={MIB}", "vcpus=2", "vcpus_per_vmm=2", "cluster.exclusive=false")


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return foreign_snapshot.write(tmp_path / "guest.mem", MIB << 20)


@contextmanager
def serves(snapshot: Path, *options: str) -> Iterator[str]:
    """The C handler at a socket."""
    path = str(snapshot.parent / "handler.sock")
    with subprocess.Popen([peer("handler"), path, str(snapshot), *options], stdout=subprocess.DEVNULL) as running:
        try:
            wait_for(lambda: listens_at(path), "the handler to listen", 5)
            yield path
        finally:
            running.kill()
            os.unlink(path)


def of(snapshot: Path, contents: str = "file") -> tuple[str, ...]:
    return "source=file", f"source.file={snapshot}", f"source.contents={contents}"


@pytest.mark.parametrize("engine", ["thread", pytest.param("kvm", marks=needs.KVM)])
def test_a_running_handler_serves_a_real_guests_memory_and_each_word_is_verified(
    bench: Bench, snapshot: Path, tmp_path: Path, engine: str
) -> None:
    with serves(snapshot) as path:
        asked = ("page_server=external", f"page_server.socket={path}", f"engine={engine}", "memory=anon", "memory.regions=2")
        row = bench.run(*GUEST, *of(snapshot), *asked)
    assert (row["status"], row["reason"], row["wrong_words"], row["pages_resolved"]) == ("ok", None, 0, PAGES)
    assert row["source_contents"] == json.loads(row["config_json"])["source"]["contents"] == "file"
    assert list(verify(DataSet.existing(str(tmp_path / "dataset")))) == []


def test_a_handlers_wrong_byte_is_named_against_the_file_and_the_row_verifies(
    bench: Bench, snapshot: Path, tmp_path: Path
) -> None:
    with serves(snapshot, "--fault", "wrong-byte") as path:
        row = bench.run(*GUEST, *of(snapshot), "page_server=external", f"page_server.socket={path}")
    assert row["status"] == "corrupt"
    found, right = foreign_snapshot.named_word(snapshot, 4096, row["reason"])
    assert found == right ^ 0x10
    assert list(verify(DataSet.existing(str(tmp_path / "dataset")))) == []


def test_without_the_key_it_is_refused_and_the_refusal_names_the_key(bench: Bench, snapshot: Path) -> None:
    row = bench.run(*GUEST, *of(snapshot, "seeded"))
    assert row["status"] == "failed"
    assert "use source.contents=file, which verifies against the file whatever it holds" in row["reason"]


@pytest.mark.parametrize(
    "asked",
    [
        ("page_server=external", f"page_server.command='{peer('handler')} {{socket}} {{snapshot}} --serves-many'", "guests=2"),
        ("strategy=file_map", "source.cache=cold"),
        ("strategy=eager",),
        ("strategy=no_uffd_wait", "fault_mix=mixed", "measure_s=0.05", "rounds_limit=3", "recover=true"),
        ("strategy=no_slow_gup", "guests=2", "prefetch=order"),
    ],
    ids=lambda asked: " ".join(asked[:2])[:40],
)
def test_guests_on_such_a_file_are_ok(bench: Bench, snapshot: Path, tmp_path: Path, asked: tuple[str, ...]) -> None:
    row = bench.run(*GUEST, *of(snapshot), *asked)
    assert (row["status"], row["reason"], row["wrong_words"]) == ("ok", None, 0)
    assert list(verify(DataSet.existing(str(tmp_path / "dataset")))) == []


def test_a_file_that_is_written_while_it_is_served_is_the_reason(tmp_path: Path, start: Start, snapshot: Path) -> None:
    driver = start(*GUEST, *of(snapshot), "access.rate_per_s=400", "access=sequential")
    events.measured_phase(tmp_path)
    with snapshot.open("r+b") as file:
        file.seek((PAGES - 8) * 4096)
        file.write(b"\xff" * (8 * 4096))  # pages that the second vCPU touches last
    _, err = driver.communicate(timeout=110)
    [row] = rows(tmp_path)
    assert row["status"] == "corrupt", err
    assert row["reason"].startswith(f"the snapshot {snapshot} was changed or replaced while it was read; page ")
