"""The command where stdout, the working directory or the user ends it: a status and a line, no traceback and no folder left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOADGEN = [str(Path(sys.executable).with_name("loadgen"))]


def test_a_closed_pipe_ends_the_command_quietly(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([*LOADGEN, "dry_run=true"], stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=100)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("arguments", [["--help"], ["dry_run=true"]])
def test_a_full_stdout_is_named(tmp_path: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run([*LOADGEN, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=100)
    assert (ended.returncode, ended.stderr) == (1, "stdout cannot be written: No space left on device\n")


def test_the_completion_for_a_shell_is_printed(tmp_path: Path) -> None:
    command = [*LOADGEN, "-sc", "install=bash"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "COMPREPLY" in ended.stdout


def test_a_deleted_working_directory_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'rmdir "$PWD"; exec "$0" dry_run=true'
    ended = subprocess.run(["sh", "-c", script, *LOADGEN], capture_output=True, text=True, cwd=gone, timeout=100)
    assert ended.returncode == 1
    assert "the working directory cannot be used (No such file or directory): change to another one" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_ctrl_c_while_modules_are_imported_ends_in_a_line(tmp_path: Path) -> None:
    command = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from loadgen.app import main; "
    command += "import sys; sys.argv[1:] = ['dry_run=true']; print('ready', flush=True); main()"
    child = subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=100)
    assert (child.returncode, said) == (130, "interrupted; nothing was started\n")
    assert os.listdir(tmp_path) == []
