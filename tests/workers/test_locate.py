"""A checkout without the compiled module, beside an installed distribution and alone: each in an interpreter of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import workers
from workers import _native


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Python files of `workers` alone."""
    folder = tmp_path / "checkout" / "workers"
    folder.mkdir(parents=True)
    for file in Path(workers.__file__).parent.glob("*.py"):
        shutil.copy(file, folder)
    return folder.parent


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An installation that has the compiled module, and numpy."""
    folder = tmp_path / "installed"
    record = folder / "uffd_loadgen-0.1.0.dist-info"
    record.mkdir(parents=True)
    (folder / "workers").mkdir()
    module = Path(_native.__file__)
    shutil.copy(module, folder / "workers")
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: uffd-loadgen\nVersion: 0.1.0\n")
    (record / "RECORD").write_text(f"workers/{module.name},,\n")
    packages = Path(numpy.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (packages / name).exists():
            (folder / name).symlink_to(packages / name)
    return folder


def python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    # -S: no site-packages, so that nothing but `path` can be found
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run([sys.executable, "-S", "-c", code], env=environment, cwd=path[0], capture_output=True, text=True)


def test_a_checkout_borrows_the_compiled_module_of_the_installed_package(checkout: Path, installed: Path) -> None:
    done = python("import workers.registry as r, workers._native as n; print(r.__file__, n.__file__)", checkout, installed)
    assert done.returncode == 0, done.stderr
    registry, native = done.stdout.split()
    assert registry == str(checkout / "workers" / "registry.py")
    assert native == str(installed / "workers" / Path(_native.__file__).name)


def test_a_checkout_alone_says_how_to_build_it(checkout: Path) -> None:
    done = python("import workers", checkout)
    assert done.returncode != 0
    assert "ImportError: the native core of workers is not built: run `make" in done.stderr


def test_an_installed_package_without_the_compiled_module_says_so(checkout: Path, installed: Path) -> None:
    (installed / "uffd_loadgen-0.1.0.dist-info" / "RECORD").write_text("")
    done = python("import workers", checkout, installed)
    assert "ImportError: the installed uffd-loadgen has no native core" in done.stderr
