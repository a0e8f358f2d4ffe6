"""Whether a data set could be opened at a place, without opening or creating one, and without pyarrow for a local folder."""

from __future__ import annotations

import os

MARKER = "_schema.json"


def refuse(uri: str) -> None:
    """Raises DataSetError for a place where `DataSet.open` would fail as far as that shows without writing there."""
    if "://" in uri or "=" in uri:
        from results.store.locations import locate

        locate(uri)
    if "://" in uri:
        return
    path = os.path.abspath(os.path.expanduser(uri))
    if os.path.lexists(path) and not os.path.isdir(path):
        _fail(uri, "it is not a folder; use another path")
    held = {*os.listdir(path)} if os.path.isdir(path) and os.access(path, os.R_OK) else set()
    if held - {MARKER, "_incoming"} and MARKER not in held:
        _fail(uri, f"it has no {MARKER} but contains {', '.join(sorted(held)[:3])}; use a folder that is empty or new")
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        _fail(uri, f"{path} is not a folder; use another path")
    if not os.access(path, os.W_OK | os.X_OK):
        _fail(uri, f"{path} is not writable; make it writable or use a data set elsewhere")


def _fail(uri: str, why: str) -> None:
    from results.store.locations import DataSetError

    raise DataSetError(f"data set {uri}: {why}")
