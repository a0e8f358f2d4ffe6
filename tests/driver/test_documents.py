"""Every command in the documents: `loadgen` plans what it is asked for, `loadgen-report` prints, a program or target exists.

Real runs of them are elsewhere: `make` in .ci/run, Ray, Slurm and S3 in tests/cluster and tests/e2e, sources in tests/net.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loadgen import app
from loadgen.host.probe import Host
from results.app import main as report
from tests.e2e.conftest import Sweep
from tests.e2e.conftest import sweep as sweep  # a fixture
from tools.documents import DOCUMENTS, ROOT, Command, commands

SHOWN = list({command.words: command for command in reversed(commands())}.values())[::-1]
"""Each once, however many documents show it."""
ELSEWHERE = ("cluster=existing", "cluster.address=")
"""Words that need a cluster: the plan is that of this host."""
ELSEWHERE_REPORTED = {"s3://bucket/path", "answer"}
"""Words of reports that tests/e2e/test_object_store.py and tests/results/test_questions.py make."""


def of(*programs: str) -> list[Command]:
    return [command for command in SHOWN if command.words[0] in programs]


@pytest.fixture
def planned(
    tmp_path: Path, host: Host, programs: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[tuple[str, ...]], str]:
    """What `loadgen` prints as the plan for these words, on a host that has all there is."""
    able = dataclasses.replace(host, huge_pages_free=1024, kvm=True, tracefs=True, swap_bytes=1 << 30)
    monkeypatch.setattr("loadgen.sweep.plan_runs.probe", lambda: able)
    monkeypatch.chdir(tmp_path)
    programs("handler", "a", "b", "c")
    (tmp_path / "pages.txt").write_text("0\n1\n")
    with open(tmp_path / "guest.mem", "wb") as snapshot:
        snapshot.truncate(64 << 20)

    def plan(words: tuple[str, ...]) -> str:
        asked = [word for word in words if not word.startswith((*ELSEWHERE, "dataset=", "dry_run="))]
        asked = [word.replace("/data/", f"{tmp_path}/") for word in asked]
        monkeypatch.setattr(sys, "argv", ["loadgen", *asked, "dry_run=true"])
        try:
            app.main()
        except SystemExit as end:
            assert not end.code, capfd.readouterr().err
        return capfd.readouterr().out

    return plan


@pytest.mark.parametrize("command", of("loadgen", "ray"), ids=str)
def test_a_documented_command_is_planned(command: Command, planned: Callable[[tuple[str, ...]], str]) -> None:
    words = command.words[command.words.index("loadgen") + 1 :]
    if words == ("strategy=plain",):  # of CONTRIBUTING's example
        return
    printed = planned(words)
    assert max(map(len, printed.splitlines())) <= 100
    assert words == ("--help",) or re.search(r"\d+ runs?, about \d+ s and \d+ MiB; nothing was started", printed)


@pytest.mark.parametrize("command", [one for one in of("loadgen-report") if not ELSEWHERE_REPORTED & {*one.words}], ids=str)
def test_a_documented_report_is_printed(
    command: Command, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [some_run, *_] = sorted(path.stem for path in (sweep.folder / "outputs/dataset/runs").rglob("*.parquet"))
    words = {"outputs/dataset": str(sweep.folder / "outputs/dataset"), "ID": some_run, "vcpus=4": "vcpus=2"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    status = report([words.get(word, word) for word in command.words[1:]])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert said.out or list(tmp_path.iterdir())


@pytest.mark.parametrize("command", of("loadgen-source"), ids=str)
def test_a_documented_source_is_one_that_its_command_takes(command: Command) -> None:
    from workers.source_command import parse

    assert parse(command.words[1:]).region_mib == 64


@pytest.mark.parametrize("command", of("loadgen-serve"), ids=str)
def test_a_documented_serve_is_one_that_its_command_takes(command: Command) -> None:
    from loadgen.serve.command import parse

    assert parse(command.words[1:]).snapshot


@pytest.mark.parametrize("command", of("make", "pip", "python", "loadgen-doctor"), ids=str)
def test_a_documented_target_module_or_extra_exists(command: Command) -> None:
    program, *words = command.words
    if program == "make":
        assert re.search(rf"^({re.escape(words[0])}|\$\(STAMP\)):", (ROOT / "Makefile").read_text(), re.M)
    if program == "python":
        assert words[0] == "-m" and importlib.util.find_spec(words[1])
    if program == "pip":
        extra = re.search(r"\[(.*)\]", words[-1])
        assert extra is None or f"\n{extra[1]} = [" in (ROOT / "pyproject.toml").read_text()


def test_readme_and_contributing_are_short_and_every_linked_file_exists() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 100
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#: ]+)\)", (ROOT / document).read_text()):
            assert (ROOT / document).parent.joinpath(link).exists(), f"{document}: {link}"


def test_the_table_on_the_first_screen_has_at_most_six_rows_and_fits_the_page() -> None:
    block = (ROOT / "README.md").read_text().split("```")[3]
    rows = [line for line in block.strip().splitlines() if re.match(r"\W*(uffd_wait|no_slow_gup|no_uffd_wait)\b", line)]
    assert 1 <= len(rows) <= 6
    assert max(map(len, block.splitlines())) <= 100


def test_the_strategy_of_contributing_compiles(tmp_path: Path) -> None:
    [code] = re.findall(r"^```cpp\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    source = tmp_path / "plain.cpp"
    source.write_text(code)
    asked = ["g++", "-std=c++20", "-fsyntax-only", "-Wall", "-Werror", "-I", str(ROOT / "workers/native"), str(source)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("made", "where"), [("Key", "loadgen/config"), ("Column", "results/schema")])
def test_the_examples_of_contributing_are_lines_of_the_code(made: str, where: str) -> None:
    code = "".join(file.read_text() for file in (ROOT / where).glob("*.py"))
    [line] = re.findall(rf"^{made}\(.*\)$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert line in code
