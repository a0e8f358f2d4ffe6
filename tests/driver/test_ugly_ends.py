"""The command where stdout, the working directory or the user ends it: a status and a line, no traceback and no folder left."""

from __future__ import annotations

import os
import subprocess
import sys
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


INTERRUPTED_AT_AN_IMPORT = """
import os, signal, sys
from loadgen.app import main

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == "hydra":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
main()
"""


def test_ctrl_c_while_modules_are_imported_ends_in_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED_AT_AN_IMPORT, "dry_run=true"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted; nothing was started\n")
    assert os.listdir(tmp_path) == []
