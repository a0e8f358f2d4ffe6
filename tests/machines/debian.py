"""Packages of Debian by name, unpacked into a folder: never installed, and with lists of their own, so that the host's apt stays
as it is."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "machines"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://deb.debian.org"


class Apt:
    """The packages of some suites for an architecture, by its Debian name."""

    def __init__(self, suites: tuple[str, ...], architecture: str) -> None:
        self._suites = suites
        self._folder = CACHE / "apt" / f"{suites[0]}-{architecture}"
        folder = self._folder
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Dir::State": folder,
            "Dir::State::status": folder / "status",
            "Dir::State::Lists": folder / "lists",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
        }
        self._options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def newest(self, pattern: str) -> str:
        """The name that fits with the highest numbers in it. Raises LookupError."""
        names = self._run("apt-cache", "pkgnames", "linux-").split()
        found = sorted((name for name in names if re.fullmatch(pattern, name)), key=_numbers)
        if not found:
            raise LookupError(f"no package of {', '.join(self._suites)} is called {pattern}")
        return found[-1]

    def unpack(self, names: Iterable[str], into: Path, dependencies: bool = False) -> None:
        """Downloads them and unpacks them into `into`, which is whole when it is there."""
        archives = self._folder / "cache" / "archives"
        if dependencies:
            self._run("apt-get", "install", "--download-only", "-y", *names)
            found = [self._deb(archives, name) for name in self._installed(names)]
        else:
            self._run("apt-get", "download", *names, cwd=archives)
            found = [self._deb(archives, name) for name in names]
        half = into.with_name(into.name + ".half")
        shutil.rmtree(half, ignore_errors=True)
        for deb in found:
            subprocess.run(["dpkg", "-x", str(deb), str(half)], check=True)
            deb.unlink()
        half.rename(into)

    def _installed(self, names: Iterable[str]) -> list[str]:
        printed = self._run("apt-get", "install", "-s", "-y", *names)
        return [line.split()[1] for line in printed.splitlines() if line.startswith("Inst ")]

    @staticmethod
    def _deb(archives: Path, name: str) -> Path:
        return next(archives.glob(f"{name}_*.deb"))

    def _run(self, program: str, *words: str, cwd: Path | None = None) -> str:
        self._lists()
        done = subprocess.run(
            [program, "-q", *self._options, *words], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode != 0:
            raise OSError(f"{program} {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    @functools.cache  # noqa: B019
    def _lists(self) -> None:
        for part in ("lists/partial", "cache/archives/partial"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        (self._folder / "sources.list").write_text("".join(map(_source, self._suites)))
        update = ["apt-get", "-q", *self._options, "update"]
        subprocess.run(update, check=True, capture_output=True, text=True, timeout=300)


def _source(suite: str) -> str:
    return f"deb [signed-by={KEYS}] {MIRROR}/debian{'-security' if suite.endswith('-security') else ''} {suite} main\n"


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def need(program: str, package: str) -> None:
    """Installs the package when the program is not there. Raises OSError with what to do without root."""
    if shutil.which(program) is not None:
        return
    if os.geteuid() != 0:
        raise OSError(f"{program} is not there: apt-get install {package}")
    install = ["apt-get", "install", "-qy", "--no-install-recommends", package]
    done = subprocess.run(install, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise OSError(f"apt-get install {package}: {done.stderr.strip()}")
