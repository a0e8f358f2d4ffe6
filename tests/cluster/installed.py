"""This package as a wheel installs it, on a Python of its own beside the one the tests run on."""

from __future__ import annotations

import shutil
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

from workers import _native

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"loadgen": "loadgen", "workers": "workers", "results": "results", "conf": "loadgen/conf"}
"""Where a wheel puts the folders of a checkout."""


def install(folder: Path) -> Path:
    """A Python that has this package installed, not editable, and what it needs; its `bin`."""
    venv.create(folder, with_pip=False, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    # Only folders count here: no .pth file in them, and so no editable install, has a say.
    site.joinpath("rest.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    copy_packages(site, PACKAGES)
    module = Path(_native.__file__)
    shutil.copy(module, site / "workers")
    ours = distribution("uffd-loadgen")
    record = site / f"uffd_loadgen-{ours.version}.dist-info"
    record.mkdir()
    record.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: uffd-loadgen\nVersion: {ours.version}\n")
    record.joinpath("RECORD").write_text(f"workers/{module.name},,\n")
    command = folder / "bin/loadgen"
    command.write_text(f"#!{folder}/bin/python\nfrom loadgen.app import main\nmain()\n")
    command.chmod(0o755)
    return command.parent


def checkout(folder: Path) -> Path:
    """What is checked out, and nothing that was built."""
    copy_packages(folder, {name: name for name in PACKAGES})
    return folder


def copy_packages(folder: Path, packages: dict[str, str]) -> None:
    """The folders of a checkout, by the names they get below `folder`."""
    for name, there in packages.items():
        shutil.copytree(ROOT / name, folder / there, ignore=shutil.ignore_patterns("native", "__pycache__", "*.so"))
