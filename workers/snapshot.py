"""The snapshot file of `source=file`: written when none is given, checked otherwise."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from workers import _native
from workers.spec import RunSpec

OWN_PREFIX = "snapshot-"


class Snapshots:
    """Snapshots of successive runs. A given file is read and checked once, and again when it has changed."""

    def __init__(self) -> None:
        self._checked: set[tuple[object, ...]] = set()

    def path_for(self, spec: RunSpec) -> str:
        """The file to serve from: the given one, checked, or one written to the session's folder, which keeps one at a time.

        Raises ValueError when the file given does not hold this run's memory, OSError when it cannot be read or written.
        """
        memory = spec.memory
        if spec.source.file:
            self._check(spec)
            return spec.source.file
        folder = Path(tempfile.gettempdir())
        own = folder / f"{OWN_PREFIX}{os.getpid()}-{memory.region_bytes}-{spec.source.seed}"
        if not own.exists():
            for old in folder.glob(f"{OWN_PREFIX}{os.getpid()}-*"):
                old.unlink()
            _native.write_snapshot(str(own), memory.region_bytes, memory.page_bytes, spec.source.seed)
        return str(own)

    def _check(self, spec: RunSpec) -> None:
        now = os.stat(spec.source.file)
        known = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, spec.memory, spec.source.seed)
        if known not in self._checked:
            _native.check_snapshot(spec.source.file, spec.memory.region_bytes, spec.memory.page_bytes, spec.source.seed)
            self._checked.add(known)
