"""The snapshot file of `source=file`: written when none is given; else checked against its seed, or taken as it is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from workers import _native
from workers.spec import RunSpec

OWN_PREFIX = "snapshot-"


class Snapshots:
    """Snapshots of successive runs. A given file is read once, and again when it has changed."""

    def __init__(self) -> None:
        self._checked: set[tuple[object, ...]] = set()
        self._touched: tuple[tuple[object, ...], bytes] = ((), b"")

    def path_for(self, spec: RunSpec) -> str:
        """The file to serve from: the given one, checked, or one written to the session's folder, which keeps one at a time.

        Raises ValueError when the file given does not hold this run's memory, OSError when it cannot be read or written.
        """
        memory = spec.memory
        if spec.source.file:
            if not spec.source.contents_of_file:
                self._check(spec)
            return spec.source.file
        folder = Path(tempfile.gettempdir())
        own = folder / f"{OWN_PREFIX}{os.getpid()}-{memory.region_bytes}-{spec.source.seed}"
        if not own.exists():
            for old in folder.glob(f"{OWN_PREFIX}{os.getpid()}-*"):
                old.unlink()
            _native.write_snapshot(str(own), memory.region_bytes, memory.page_bytes, spec.source.seed)
        return str(own)

    def touched_words(self, spec: RunSpec) -> bytes:
        """Of every page of the given file the word that a vCPU touches. Raises as `path_for`."""
        known = _identity(spec)
        if known != self._touched[0]:
            memory = spec.memory
            words = _native.touched_words(spec.source.file, memory.region_bytes, memory.page_bytes, spec.source.seed)
            self._touched = known, words
        return self._touched[1]

    def _check(self, spec: RunSpec) -> None:
        known = _identity(spec)
        if known not in self._checked:
            _native.check_snapshot(spec.source.file, spec.memory.region_bytes, spec.memory.page_bytes, spec.source.seed)
            self._checked.add(known)


class Stamp:
    """Whether a snapshot file is still as it was: `as_it_was` where its contents count, else at least as long."""

    def __init__(self, path: str, *, as_it_was: bool) -> None:
        self._path, self._as_it_was = path, as_it_was
        self._before = os.stat(path)

    def change(self) -> str:
        """How it has changed, in words; empty: it has not."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return f"the snapshot {self._path} was removed while it was read"
        if now.st_size < self._before.st_size:
            return (
                f"the snapshot {self._path} became shorter while it was read: from {self._before.st_size} to {now.st_size} bytes"
            )
        if self._as_it_was and _version(now) != _version(self._before):
            return f"the snapshot {self._path} was changed or replaced while it was read"
        return ""


def _version(file: os.stat_result) -> tuple[int, ...]:
    return file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns


def _identity(spec: RunSpec) -> tuple[object, ...]:
    return *_version(os.stat(spec.source.file)), spec.memory, spec.source.seed
