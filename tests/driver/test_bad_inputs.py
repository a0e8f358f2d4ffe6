"""What a user may type, and the answer: an exit status and words, never a traceback. Nothing is started."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from loadgen import app

TABLE = Path(__file__).with_name("bad_inputs.txt")
ROWS = [
    tuple(part.strip() for part in line.split(" | "))
    for line in TABLE.read_text().splitlines()
    if line and not line.startswith("#")
]

FILES = {
    "file": "a file",
    "other/notes.txt": "notes",
    "words": "1\n2 # two\nfive\n",
    "negative": "-1\n",
    "large": "99999999999999999999\n",
    "outside": "0\n4000000\n",
    "comments": "# nothing\n\n",
    "short": "5\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `{tmp}` of the table."""
    made = tmp_path_factory.mktemp("bad")
    for name, text in FILES.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(text)
    os.mkfifo(made / "fifo")
    (made / "empty").mkdir()
    return made


def status_of(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of the command, run in this process."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["loadgen", *arguments])
    try:
        app.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_table_has_at_least_150_rows_and_none_twice() -> None:
    assert len(ROWS) >= 150
    assert len({typed for typed, *_ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("typed", "status", "words"), ROWS, ids=[typed for typed, *_ in ROWS])
def test_a_bad_input_ends_with_a_status_and_a_remedy(
    typed: str,
    status: str,
    words: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder / "empty")
    arguments = [*shlex.split(typed.replace("{tmp}", str(folder)), posix=True), "dry_run=true"]
    ended = status_of(arguments, monkeypatch)
    said = capsys.readouterr()
    assert ended == int(status), said
    assert said.out == ""
    assert "Traceback" not in said.err
    for word in words.split(";"):
        assert word.strip() in said.err, said.err
    assert os.listdir(folder / "empty") == []
