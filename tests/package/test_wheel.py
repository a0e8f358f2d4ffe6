"""What a wheel contains. The native core is left out (`wheel.cmake=false`): other tests import it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.e2e.command import run

ROOT = Path(__file__).parents[2]
BUILD = ("--quiet", "--disable-pip-version-check", "--no-build-isolation", "--no-deps", "-C", "wheel.cmake=false")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout without its native core."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *BUILD, "-C", f"build-dir={folder / 'build'}", "-w", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("*.whl")
    return built


def declared_version() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def test_a_wheel_marks_all_three_packages_as_typed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith("py.typed")] == [
        "loadgen/py.typed",
        "results/py.typed",
        "workers/py.typed",
    ]


def test_a_wheel_holds_the_configuration_and_no_source_of_the_core(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "loadgen/conf/config.yaml" in names and "loadgen/conf/strategy/README.md" in names
    assert not [name for name in names if name.startswith("workers/native/") or name.startswith("tests/")]


def test_loadgen_prints_its_version_and_the_changelog_starts_with_it(wheel: Path, tmp_path: Path) -> None:
    version = declared_version()
    assert f"-{version}-" in wheel.name
    done = run(tmp_path, "loadgen", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"loadgen {version}\n", "")
    heads = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert heads[0].split()[1] == version
