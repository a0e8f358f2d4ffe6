"""A root file system with Python and this project in it, as a disk image: the product itself on a machine, without Ray."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from tests.machines.debian import CACHE, ROOT, Apt
from tests.machines.machine import BOOKWORM, Architecture
from tests.machines.programs import extension_of

PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "busybox-static", "tzdata")
PURE = ("hydra", "omegaconf", "antlr4", "yaml", "packaging")
"""What the configuration needs, copied from this environment: Python alone."""
PROJECT = ("conf", "loadgen", "results", "tests", "tools", "workers")
SITE = Path("usr/lib/python3/dist-packages")


@functools.cache
def image_of(architecture: Architecture) -> Path:
    """The image, made anew: the project in it is the checkout as it is now. Machines only read it."""
    folder = CACHE / "root" / architecture.name
    system = CACHE / "system" / architecture.name
    if not system.exists():
        system.parent.mkdir(parents=True, exist_ok=True)
        Apt(BOOKWORM, architecture.debian).unpack(PACKAGES, system, dependencies=True)
        _wheels(system / SITE, architecture)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(system, folder, symlinks=True)
    for name in PURE:
        shutil.copytree(_here(name), folder / SITE / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in PROJECT:
        shutil.copytree(ROOT / name, folder / "project" / name, ignore=shutil.ignore_patterns("__pycache__", "native", "data"))
    extension = extension_of(architecture)
    shutil.copy(extension, folder / "project" / "workers" / extension.name)
    for name in ("dev", "proc", "sys", "tmp", "root"):
        (folder / name).mkdir(exist_ok=True)
    return make_image(CACHE / f"{architecture.name}.ext4", mib=512, folder=folder)


def make_image(image: Path, *, mib: int, folder: Path | None = None) -> Path:
    """A new image of that size with what is in `folder`, or with nothing."""
    image.unlink(missing_ok=True)
    contents = ["-d", str(folder)] if folder is not None else []
    make = ["/usr/sbin/mkfs.ext4", "-q", *contents, "-O", "^has_journal", str(image), f"{mib}M"]
    subprocess.run(make, check=True, capture_output=True, text=True)
    return image


def _wheels(site: Path, architecture: Architecture) -> None:
    numpy = f"numpy=={importlib.metadata.version('numpy')}"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
    subprocess.run(
        [*pip, "--platform", f"manylinux_2_28_{architecture.wheel}", "--target", str(site), numpy], check=True, timeout=600
    )


def _here(package: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None
    return Path(found.origin).parent
