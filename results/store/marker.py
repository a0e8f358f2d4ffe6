"""The marker of a data set, `_schema.json`: which schema version it holds, and what its columns mean."""

from __future__ import annotations

import json
import uuid

import pyarrow.fs

from results.schema import COLUMNS, SCHEMA_VERSION
from results.store.locations import DataSetError, Location, reported

MARKER = "_schema.json"
INCOMING = "_incoming"
"""Folder of runs that are not complete, beside the tables."""
PLANS = "_plans"
"""Folder of what each sweep planned."""
COPIES = "_runs"
"""Folder of copies of the rows of `runs`, many to a file."""

_SWEEP_ID_UP_TO = 2
"""The newest schema version whose sweeps have folders named sweep_id=<sweep>."""


def folder_of(sweep_id: str, version: int) -> str:
    """The name of a sweep's folder in each table."""
    return f"sweep_id={sweep_id}" if version <= _SWEEP_ID_UP_TO else f"sweep={sweep_id}"


def version_held(location: Location) -> int | None:
    """The schema version of the data set that is there, None if none is; raises DataSetError for one this package cannot read."""
    path = location.join(MARKER)
    with reported(location.uri, f"read its {MARKER}"):
        info = location.filesystem.get_file_info(path)
        if info.type == pyarrow.fs.FileType.NotFound:
            return None
        with location.filesystem.open_input_stream(path) as stream:
            text = stream.read()
    try:
        version = int(json.loads(text)["schema_version"])
    except (ValueError, KeyError, TypeError):
        raise DataSetError(f"data set {location.uri}: its {MARKER} makes no sense; use a data set elsewhere") from None
    if not 1 <= version <= SCHEMA_VERSION:
        raise DataSetError(
            f"data set {location.uri} holds schema version {version}, this package has version {SCHEMA_VERSION}: "
            f"use a data set elsewhere, or the release of this package that wrote it"
        )
    return version


def refuse_to_mix(uri: str, version: int) -> None:
    """Raise DataSetError when runs cannot be added because the data set holds an older version."""
    if version != SCHEMA_VERSION:
        raise DataSetError(
            f"data set {uri} holds schema version {version} and can be read, but this package writes version "
            f"{SCHEMA_VERSION} and a data set holds one only: use a data set elsewhere for new runs"
        )


def refuse_foreign(location: Location) -> None:
    """Raise DataSetError when something else is there."""
    with reported(location.uri, "look there"):
        if location.filesystem.get_file_info(location.path).type == pyarrow.fs.FileType.File:
            raise DataSetError(f"data set {location.uri} is a file: give a folder that is empty or not there yet")
        found = location.filesystem.get_file_info(pyarrow.fs.FileSelector(location.path, allow_not_found=True))
    foreign = sorted(info.base_name for info in found if info.base_name not in (MARKER, INCOMING, PLANS, COPIES))
    if foreign:
        raise DataSetError(
            f"{location.uri} is not a data set: it has no {MARKER} but holds {', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}; give a folder that is empty or not there yet"
        )


def create(location: Location) -> None:
    """Make an empty data set. Raises DataSetError."""
    with reported(location.uri, "create it"):
        path = _write_marker_aside(location)
        location.filesystem.move(path, location.join(MARKER))


def try_to_write(location: Location) -> None:
    """Write a file aside and remove it. Raises OSError."""
    location.filesystem.delete_file(_write_marker_aside(location))


def _write_marker_aside(location: Location) -> str:
    location.filesystem.create_dir(location.join(INCOMING), recursive=True)
    path = location.join(INCOMING, f"{MARKER}-{uuid.uuid4().hex[:8]}")
    with location.filesystem.open_output_stream(path) as stream:
        stream.write(json.dumps({"schema_version": SCHEMA_VERSION, "tables": _documented()}, indent=1).encode())
    return path


def _documented() -> dict[str, dict[str, dict[str, str]]]:
    """By table and column: type, unit and one line of what it means."""
    return {
        table: {column.name: {"type": str(column.type), "unit": column.unit, "doc": column.meaning} for column in columns}
        for table, columns in COLUMNS.items()
    }
