"""The keeper outlives the signals that end its driver; a session's folder is removed when its driver is gone, and not before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadgen.cluster import temporary
from loadgen.cluster.temporary import new_folder, remove_stale_folders
from loadgen.errors import ConfigError
from loadgen.host.changes import Keeper
from loadgen.host.session_folder import living_in


def of_keeper(folder: Path) -> int:
    """The pid of the keeper that this process has started for `folder`."""
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        pids = [int(pid) for pid in children.read().split()]
    [pid] = [one for one in pids if b"loadgen.host.keeper" in Path(f"/proc/{one}/cmdline").read_bytes()]
    return pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_signal_that_ends_a_driver_ends_its_keeper(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    keeper = Keeper("folder", folder=str(folder))
    pid = of_keeper(folder)
    assert os.getpgid(pid) == os.getsid(pid) == pid, "a signal to the driver's group or session does not reach it"
    os.kill(pid, number)
    time.sleep(0.3)
    assert Path(f"/proc/{pid}/cmdline").read_bytes() and folder.exists()
    keeper.undo()
    assert not folder.exists()


def test_a_keeper_is_not_as_likely_to_be_killed_for_lack_of_memory_as_its_driver(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    driver = """
import os
from pathlib import Path
from loadgen.host.changes import Keeper
from loadgen.host.session_folder import living_in
from tests.driver.test_keeper import of_keeper
Path("/proc/self/oom_score_adj").write_text("500")
folder = Path(os.environ["FOLDER"])
keeper = Keeper("folder", folder=str(folder))
print(Path(f"/proc/{of_keeper(folder)}/oom_score_adj").read_text())
keeper.undo()
"""
    environment = os.environ | {"FOLDER": str(folder)}
    done = subprocess.run([sys.executable, "-c", driver], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) in (-1000, 0)


def test_a_keeper_is_none_of_the_processes_that_end_with_its_drivers_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    keeper = Keeper("folder", folder=str(folder))
    pid, living = of_keeper(folder), living_in(str(folder))
    keeper.undo()
    assert pid not in living


def test_what_lives_in_the_folder_of_a_killed_driver_ends_within_ten_seconds(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    left = subprocess.Popen([sys.executable, "-c", stubborn], env=os.environ | {"TMPDIR": str(folder)}, start_new_session=True)
    driver = (
        "import sys, time; from loadgen.host.changes import Keeper; k = Keeper('folder', folder=sys.argv[1]); "
        "print('kept', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", driver, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "kept\n"
    process.kill()
    process.wait()
    assert left.wait(timeout=10) == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_the_folder_of_a_living_driver_is_kept_and_that_of_a_dead_one_removed(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine, init, dead = (short_path / f"ulg-{pid}-x" for pid in (os.getpid(), 1, gone.pid))
    other = short_path / "ulg-notes-x"
    for folder in (mine, init, dead, other):
        folder.mkdir()
    remove_stale_folders()
    assert mine.exists() and init.exists() and other.exists()
    assert not dead.exists()


def test_a_temporary_folder_with_a_long_path_is_not_used_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder = Path(new_folder())
    assert folder.parent == Path("/tmp")
    folder.rmdir()
    monkeypatch.setattr(temporary, "OTHERWISE", ("/proc",))
    with pytest.raises(ConfigError, match=r"longer than 107 bytes; /proc: .*set TMPDIR to a short path"):
        new_folder()
