"""Files of page numbers: traces and working sets, each read once."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np

from results.store.trace_file import Trace, read_trace
from workers.spec import AccessSpec, TraceSpec


def trace_in(path: str) -> Trace:
    """The trace in a file. Raises OSError where it cannot be read, ValueError with what is wrong in it."""
    return _read(path, *_unchanged(path))


def pages_in(path: str) -> tuple[int, ...]:
    """Its page numbers alone: one tuple for all runs of a sweep."""
    return _pages(path, *_unchanged(path))


def trace_spec(path: str, speed: float) -> TraceSpec:
    """The trace as vCPUs replay it: its gaps divided by `speed`, 0 for back to back. One for all runs of a sweep."""
    return _spec(path, speed, *_unchanged(path))


def _unchanged(path: str) -> tuple[int, ...]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=4)
def _read(path: str, *_unchanged: int) -> Trace:
    return read_trace(path)


@lru_cache(maxsize=4)
def _pages(path: str, *unchanged: int) -> tuple[int, ...]:
    return tuple(_read(path, *unchanged).page.tolist())


@lru_cache(maxsize=4)
def _spec(path: str, speed: float, *unchanged: int) -> TraceSpec:
    trace = _read(path, *unchanged)
    timed = speed > 0 and trace.span_ns > 0
    return TraceSpec(
        due_ns=tuple(np.rint(trace.time_ns / speed).astype(np.int64).tolist()) if timed else (),
        write=tuple(trace.write.astype(int).tolist()),
        vcpu=tuple(trace.vcpu.tolist()),
    )


def longest_share(access: AccessSpec, vcpus: int) -> int:
    """The most accesses of its trace that one of so many vCPUs makes in a pass."""
    if access.overlap:
        return len(access.trace)
    whose = np.asarray(access.recorded.vcpu or range(len(access.trace))) % vcpus
    return int(np.bincount(whose).max())
