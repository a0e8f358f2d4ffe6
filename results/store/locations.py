"""Where a data set lives: a local path, or any URI that pyarrow or fsspec supports."""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs


class DataSetError(Exception):
    """The data set cannot be used; the message names it and has the fix."""


class NoDataSet(DataSetError):
    """There is no data set yet."""


@dataclass(frozen=True)
class Location:
    """A folder of some file system; `uri` is what the user wrote."""

    filesystem: pyarrow.fs.FileSystem
    path: str
    uri: str

    def join(self, *names: str) -> str:
        """The path of something inside the folder."""
        return "/".join((self.path.rstrip("/"), *names))


def absolute(uri: str) -> str:
    """The same place, whatever folder it is looked for from."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def locate(uri: str) -> Location:
    """Find the file system of `uri`. Raises DataSetError for an unknown scheme or a store that does not answer."""
    if "://" not in uri:
        return Location(pyarrow.fs.LocalFileSystem(), absolute(uri), uri)
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid:
        return _locate_with_fsspec(uri)
    except OSError as error:
        raise DataSetError(f"data set {uri}: cannot reach it: {error}") from error
    return Location(filesystem, path, uri)


def _locate_with_fsspec(uri: str) -> Location:
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError:
        raise DataSetError(
            f"data set {uri}: pyarrow does not support this kind of address; `pip install fsspec` (and the scheme's own "
            "package) to have more of them, or give a local path"
        ) from None
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError, OSError) as error:
        raise DataSetError(f"data set {uri}: {error}; or give a local path") from error
    return Location(pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)), path, uri)


def refuse_hive_folders(location: Location) -> None:
    """Raise DataSetError for a folder on the way that readers take for a column.

    DuckDB and others read `vcpus=16/` anywhere in a path as a column of that name, in place of the one in the files.
    """
    folders = [name for name in location.path.split("/") if name.find("=") > 0]
    if folders:
        column, _, value = folders[0].partition("=")
        raise DataSetError(
            f"data set {location.uri}: its folder {folders[0]!r} looks like a partition: DuckDB and others would read a column "
            f"{column} with the value {value!r} from it in every row; use a folder without ="
        )


@contextmanager
def reported(uri: str, doing: str) -> Iterator[None]:
    """Turn what a file system or Parquet reports meanwhile into a DataSetError with the way out."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        code = getattr(error, "errno", None)
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "; free some space, store fewer faults, or use a data set elsewhere"
        elif code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            remedy = "; make it writable or use a data set elsewhere"
        else:
            remedy = ""
        raise DataSetError(f"data set {uri}: cannot {doing}: {error}{remedy}") from error
