"""`loadgen-serve` against a VMM in C that speaks the published handshake and shares nothing with this project."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from loadgen.serve.command import main as serve
from results.app import main
from results.store.dataset import DataSet
from results.store.trace_file import read_trace
from results.verify.verification import verify
from tests.serve.serving import descriptors_of, finished, serving, snapshot

PAGES = 1024


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """Every fifth page is zeros, the last 64 are a hole."""
    return snapshot(tmp_path / "guest.mem", PAGES, zeros=5, hole=64)


ZEROS = 192 + 64
"""Pages of zeros before the hole, and those of the hole."""


@pytest.mark.parametrize("kind", ["anon", "memfd"])
@pytest.mark.parametrize(
    "options", [[], ["--readers", "3", "--wait", "epoll"], ["--fault-around", "8", "--wake-first"], ["--prefetch", "order"]]
)
def test_every_page_is_served_with_the_contents_of_the_snapshot(
    tmp_path: Path, memory: Path, kind: str, options: list[str]
) -> None:
    with serving(tmp_path, memory, *options) as server:
        said, ended = server.served("--memory", kind, "--regions", "3", "--vcpus", "4", "--order", "random", "--writes")
        assert (said["pages"], said["wrong"], said["gone"]) == (PAGES, 0, False)
        assert ended["served_pages"] + ended["prefetched_pages"] == PAGES
        assert ended["zero_pages"] == ZEROS
        assert ended["why"] == "the VMM has closed its connection"
        assert server.end() == 0
        assert not server.socket.exists()


@pytest.mark.usefixtures("huge_pages")
def test_huge_pages_are_served_whole(tmp_path: Path) -> None:
    memory = snapshot(tmp_path / "guest.mem", 4 * 512, zeros=5)
    with serving(tmp_path, memory) as server:
        said, ended = server.served("--memory", "hugetlb", "--vcpus", "2")
        assert (said["pages"], said["wrong"]) == (4, 0)
        assert (ended["served_pages"], ended["zero_pages"]) == (4, 0)


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize(
    "options",
    [
        ["--readers", "3"],
        ["--fault-around", "8", "--wake-first", "--delay-us", "200"],
        ["--prefetch", "order"],
        ["--prefetch", "working_set:SET", "--fault-around", "16"],
    ],
)
def test_a_vmm_with_regions_of_small_and_of_huge_pages_is_served(tmp_path: Path, options: list[str]) -> None:
    pages, small = 8 * 512, 4 * 512
    memory = snapshot(tmp_path / "guest.mem", pages, zeros=5)
    (tmp_path / "set").write_text("\n".join(map(str, range(1000, 2000))))
    with serving(tmp_path, memory, *(one.replace("SET", str(tmp_path / "set")) for one in options)) as server:
        said, ended = server.served("--memory", "mixed", "--regions", "4", "--vcpus", "4", "--order", "random", "--writes")
        assert (said["pages"], said["wrong"]) == (pages, 0)
        assert ended["served_pages"] + ended["prefetched_pages"] == pages
        said, ended = server.served("--memory", "mixed", "--regions", "4", "--vcpus", "3", "--balloon")
        assert (said["wrong"], said["not_zero"], ended["status"]) == (0, 0, "ok")
        assert ended["removes"] == 2 * small // 8
        began = [event for event in server.events if event["event"] == "vmm_began"]
        assert {(event["page_bytes"], *event["page_sizes"]) for event in began} == {(4096, 4096, 2 << 20)}


@pytest.mark.parametrize("message", ["current", "old", "both"])
def test_each_form_of_the_message_is_understood(tmp_path: Path, memory: Path, message: str) -> None:
    with serving(tmp_path, memory) as server:
        said, _ = server.served("--message", message, "--regions", "2")
        assert (said["pages"], said["wrong"]) == (PAGES, 0)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--readers", "3"],
        ["--fault-around", "16", "--readers", "2", "--delay-us", "300"],
        ["--prefetch", "order", "--readers", "2"],
    ],
)
def test_pages_that_a_balloon_dropped_read_as_zeros_whatever_was_in_flight(
    tmp_path: Path, memory: Path, options: list[str]
) -> None:
    with serving(tmp_path, memory, *options) as server:
        said, ended = server.served("--balloon", "--vcpus", "3")
        assert (said["wrong"], said["not_zero"]) == (0, 0)
        assert ended["removes"] == 2 * PAGES // 8
        assert ended["status"] == "ok"


def test_a_vmm_that_dies_is_dropped_and_the_others_are_served(tmp_path: Path, memory: Path) -> None:
    with serving(tmp_path, memory) as server:
        _, ended = server.served("--die-after", "50", status=9)
        assert ended["status"] == "ok"
        held = descriptors_of(server.process.pid)
        for _ in range(3):
            server.served("--die-after", "50", status=9)
        said, _ = server.served()
        assert said["wrong"] == 0
        assert descriptors_of(server.process.pid) == held


def test_64_vmms_are_served_at_once(tmp_path: Path) -> None:
    memory = snapshot(tmp_path / "guest.mem", 64, zeros=3)
    with serving(tmp_path, memory) as server:
        vmms = [server.vmm("--hold-ms", "500") for _ in range(64)]
        said = [finished(vmm) for vmm in vmms]
        assert [(one["pages"], one["wrong"]) for one in said] == [(64, 0)] * 64
        assert server.end() == 0
        assert sum(event["event"] == "vmm_ended" for event in server.events) == 64


BAD = {
    "not json": ["--text", "hello"],
    "no array": ["--text", "{}"],
    "half": ["--text", '[{"base_host_virt_addr": 4096'],
    "no size": ["--text", '[{"base_host_virt_addr": 4096, "offset": 0, "page_size": 4096}]'],
    "no page size": ["--text", '[{"base_host_virt_addr": 4096, "size": 4096, "offset": 0}]'],
    "two page sizes": ["--text", '[{"base_host_virt_addr":0,"size":4096,"offset":0,"page_size":4096,"page_size_kib":4}]'],
    "odd page size": ["--text", '[{"base_host_virt_addr":0,"size":4096,"offset":0,"page_size":5000}]'],
    "text": ["--text", '[{"base_host_virt_addr":"0","size":4096,"offset":0,"page_size":4096}]'],
    "unaligned": ["--text", '[{"base_host_virt_addr":1,"size":4096,"offset":0,"page_size":4096}]'],
    "too small": ["--text", '[{"base_host_virt_addr":0,"size":4096,"offset":0,"page_size":4096}]'],
    "beyond": ["--text", '[{"base_host_virt_addr":0,"size":4096,"offset":1099511627776,"page_size":4096}]'],
    "no descriptor": ["--descriptors", "0"],
    "two descriptors": ["--descriptors", "2"],
    "says more": ["--say-more", "--no-check"],
}
REASONS = {
    "not json": "malformed JSON",
    "no array": "expected a JSON array of at least one region",
    "half": "disconnected half way through its message",
    "no size": "a region's size is missing or not an integer",
    "no page size": "a region has neither page_size nor page_size_kib",
    "two page sizes": "a region's page_size is 4096 and its page_size_kib 4",
    "odd page size": "a region's page size is 5000: a power of two",
    "text": "a region's base_host_virt_addr is missing or not an integer",
    "unaligned": "a region's base_host_virt_addr is not aligned to its page size of 4096",
    "too small": f"its regions have 4096 bytes together, and the snapshot {PAGES * 4096}",
    "beyond": f"a region ends at 1099511631872, and the snapshot has {PAGES * 4096} bytes",
    "no descriptor": "no descriptor came with the message",
    "two descriptors": "2 descriptors came with the message: a guest_memfd and a bitmap",
    "says more": "messages on the connection",
}


def test_a_bad_peer_is_refused_by_name_and_hurts_no_other(tmp_path: Path, memory: Path) -> None:
    with serving(tmp_path, memory) as server:
        good = server.vmm("--hold-ms", "1000")
        server.until("vmm_began")
        for name, options in BAD.items():
            vmm = server.vmm(*options)
            if name == "half":
                time.sleep(0.2)
                vmm.kill()
            event = server.until("vmm_ended" if name == "says more" else "refused")
            assert REASONS[name] in event.get("reason", event.get("why")), name
            vmm.kill()
            vmm.communicate()
        assert finished(good)["wrong"] == 0


def test_sigterm_answers_what_is_raised_and_lets_every_sleeper_go(tmp_path: Path) -> None:
    memory = tmp_path / "guest.mem"
    with open(memory, "wb") as file:
        file.truncate(4 << 30)  # more than is touched while the last events are answered
    with serving(tmp_path, memory, "--delay-us", "3000000") as server:
        vmm = server.vmm("--vcpus", "4")
        server.until("vmm_began")
        while server.until("look")["faults"] < 4:
            pass
        assert server.end() == 0
        said = finished(vmm, 3)
        assert said["pages"] >= 4
        assert (said["wrong"], said["gone"]) == (0, True)


def test_a_recorded_vmm_is_a_run_that_verifies_and_is_shown_and_replayed(
    tmp_path: Path, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = str(tmp_path / "dataset")
    with serving(tmp_path, memory, "--once", "--record", uri, "--working-set", str(tmp_path / "set")) as server:
        said, ended = server.served("--names-threads", "--vcpus", "2", "--order", "random", "--writes")
        assert server.process.wait(60) == 0
    dataset = DataSet.existing(uri)
    [run] = dataset.runs()
    assert run["run_id"] == ended["run_id"]
    expected = {"run_kind": "serve", "status": "ok", "engine": "foreign", "pages": PAGES, "pages_resolved": PAGES, "vcpus": 2}
    assert {name: run[name] for name in expected} == expected
    assert run["zero_pages"] == ZEROS
    assert run["ended_resolved"] == PAGES
    assert run["faults"] == run["fault_records"] == said["pages"]
    assert 0 < run["service_p50_ns"] <= run["service_p99_ns"]
    assert list(verify(dataset)) == []
    faults = dataset.read("faults")
    assert (faults.column("raised_ns").null_count, faults.column("delivered_ns").null_count) == (PAGES, 0)
    assert faults.column("write").null_count == 0
    working_set = [int(line) for line in (tmp_path / "set").read_text().split()]
    assert sorted(working_set) == list(range(PAGES))
    assert main(["trace", "--run", run["run_id"], "--out", str(tmp_path / "trace"), uri]) == 0
    trace = read_trace(str(tmp_path / "trace"))
    assert trace.page.tolist() == working_set
    assert trace.vcpus == 2
    for command in (["table", uri], ["locality", uri], ["show", uri]):
        assert main(command) == 0
    assert "foreign" in capsys.readouterr().out


def test_a_working_set_is_prefetched_in_its_order(tmp_path: Path, memory: Path) -> None:
    (tmp_path / "set").write_text("\n".join(map(str, range(100, 200))))
    with serving(tmp_path, memory, "--prefetch", f"working_set:{tmp_path / 'set'}") as server:
        said, ended = server.served("--order", "random")
        assert said["wrong"] == 0
        assert ended["prefetched_pages"] <= 100
        assert ended["served_pages"] + ended["prefetched_pages"] == PAGES


def test_a_snapshot_that_becomes_shorter_ends_its_vmm_by_name_and_not_the_server(tmp_path: Path, memory: Path) -> None:
    with serving(tmp_path, memory, "--delay-us", "2000") as server:
        vmm = server.vmm("--no-check")
        while server.until("look")["faults"] < 2:
            pass
        os.truncate(memory, 4096)
        assert "UFFDIO_COPY of page" in server.until("vmm_ended")["why"]
        assert finished(vmm, 3)["gone"] is True
        assert server.end() == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--snapshot", "/nowhere"], "open of the snapshot /nowhere"),
        (["--snapshot", "/dev/null"], "is no regular file"),
        (
            ["--socket", "/nowhere/serve.sock"],
            "--socket /nowhere/serve.sock: the socket cannot be made: No such file or directory",
        ),
        (["--socket", "long" * 27], "the path of a Unix socket has 1 to 107 bytes: use a shorter one"),
        (["--socket", ""], "the path of a Unix socket has 1 to 107 bytes"),
        (["--working-set", "/nowhere/set"], "--working-set /nowhere/set: its folder is not there, or cannot be written"),
        (["--prefetch", "later"], "--prefetch later: use none, order or working_set:FILE"),
        (["--prefetch", "working_set:/nowhere"], "No such file or directory: '/nowhere'"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_starts(
    tmp_path: Path, memory: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert serve(["--socket", str(tmp_path / "s"), "--snapshot", str(memory), *options]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_socket_that_is_in_use_is_left_alone_and_a_stale_one_replaced(
    tmp_path: Path, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, memory) as server:
        assert serve(["--socket", str(server.socket), "--snapshot", str(memory)]) == 1
        assert "another process listens there" in capsys.readouterr().err
        assert server.served()[0]["wrong"] == 0
        server.process.kill()
        server.process.wait()
        assert server.socket.exists()
    with serving(tmp_path, memory) as server:
        assert server.served()[0]["wrong"] == 0
    (tmp_path / "file").touch()
    assert serve(["--socket", str(tmp_path / "file"), "--snapshot", str(memory)]) == 1
    assert "a file that is no socket is there" in capsys.readouterr().err
