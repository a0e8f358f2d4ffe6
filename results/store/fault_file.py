"""The Parquet file of one run's faults, written by a thread of its own while the next rows are prepared."""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from results.schema import STAGES_NS, arrow_schema
from results.store.parquet import WRITTEN

_MOST_WAITING = 1
_DICTIONARY_COLUMNS = ["run_id", "sweep_id", "kind", "outcome", "guest", "host"]


class FaultFile:
    """Write row groups in order. An error of the thread is raised by the next call of `write` or `close`.

    Times of one run share their high bytes: split into byte planes they compress to a quarter, faster than plain ones
    can be copied out.
    """

    def __init__(self, filesystem: pyarrow.fs.FileSystem, path: str) -> None:
        self._stream = filesystem.open_output_stream(path)
        self._writer = pq.ParquetWriter(
            self._stream,
            arrow_schema("faults"),
            use_dictionary=_DICTIONARY_COLUMNS,
            use_byte_stream_split=list(STAGES_NS),
            **WRITTEN,
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fault-file")
        self._waiting: deque[Future[None]] = deque()

    def write(self, batch: pa.RecordBatch) -> None:
        """Queue one row group; blocks while one is waiting."""
        while len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._writer.write_batch, batch))

    def close(self) -> None:
        """Wait for the rows queued and complete the file; the thread and the file are gone even if this raises."""
        try:
            while self._waiting:
                self._waiting.popleft().result()
            self._writer.close()
            self._stream.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of thread and file, complete or not; an error of the file system no longer matters."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()
        for held in (self._writer, self._stream):
            with contextlib.suppress(OSError, pa.ArrowException):
                held.close()
