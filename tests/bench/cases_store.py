"""Fault records into Parquet: how fast, and in how much memory a record."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from results.store.dataset import DataSet
from tests.bench.lines import Asked, Line
from tests.results import many
from workers import _native

RECORDS = 10_000_000
CHUNK = 1 << 18
VCPUS = 8
RUNS = 10_000
READ_BAR_S = 20.0
READ_BAR_MIB = 1024.0
RATE_BAR = 5e6
BYTES_BAR = 64.0


def status_bytes(name: str) -> int:
    """A size of this process from `/proc/self/status` (`VmRSS`, `VmHWM`), in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def fault_records(count: int) -> npt.NDArray[np.void]:
    """`count` records as a run leaves them: rising times with random stages, pages in random order. Made in chunks."""
    random = np.random.default_rng(1)
    records = np.zeros(count, dtype=_native.FAULT_DTYPE)
    for start in range(0, count, CHUNK):
        chunk = records[start : start + CHUNK]
        at = 1_000_000_000_000 + start * 2_000 + np.arange(len(chunk), dtype=np.uint64) * np.uint64(2_000)
        for stage in ("raised_ns", "delivered_ns", "fetched_ns", "installed_ns", "resumed_ns"):
            at = at + random.integers(200, 3_000, len(chunk), dtype=np.uint64)
            chunk[stage] = at
        chunk["page"] = random.integers(0, count, len(chunk), dtype=np.uint32)
        chunk["cpu"] = random.integers(0, 2, len(chunk))
        chunk["kind"] = _native.KINDS.index("minor")
    return records


def write(dataset: DataSet, run_id: str, records: npt.NDArray[np.void]) -> float:
    """Write the records chunk by chunk as one run; returns seconds from first chunk to commit."""
    begin = time.perf_counter()
    writer = dataset.writer(run_id, "bench")
    for start in range(0, len(records), CHUNK):
        chunk = records[start : start + CHUNK]
        vcpu = np.full(len(chunk), start // CHUNK % VCPUS, dtype=np.uint16)
        writer.faults(_native.KINDS, _native.OUTCOMES).add(vcpu, chunk)
    writer.commit({"status": "ok"}, [])
    return time.perf_counter() - begin


def store(count: int, into: str) -> tuple[float, float]:
    """Write `count` records; returns (seconds from first chunk to commit, peak bytes of memory a record).

    The bytes count the records themselves and everything the writing added, from before the records existed. A run of
    one chunk goes first: what libraries load on first use is no cost of a record.
    """
    dataset = DataSet.open(into)
    write(dataset, "first", fault_records(CHUNK))
    before = status_bytes("VmRSS")
    records = fault_records(count)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    seconds = write(dataset, "measured", records)
    return seconds, (status_bytes("VmHWM") - before) / count


def parquet(asked: Asked) -> Iterator[Line]:
    """Ten million records, in a fresh process so that its peak memory is theirs."""
    with (
        tempfile.TemporaryDirectory(dir=asked.build) as scratch,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        seconds, record_bytes = pool.submit(store, RECORDS, str(Path(scratch) / "dataset")).result()
    rate = RECORDS / seconds
    chunk_bytes = CHUNK * BYTES_BAR / RECORDS
    yield Line(
        "parquet",
        "million fault records a second to Parquet",
        f"{rate / 1e6:.2f}",
        f">= {RATE_BAR / 1e6:.0f}",
        rate >= RATE_BAR,
        f"{RECORDS} records in {seconds:.2f} s",
    )
    yield Line(
        "parquet",
        "peak bytes of memory a fault record",
        f"{record_bytes:.1f}",
        f"<= {BYTES_BAR:.0f} + one chunk",
        record_bytes <= BYTES_BAR + chunk_bytes,
        f"a chunk of {CHUNK} records: {chunk_bytes:.1f} bytes a record",
    )


def reading(asked: Asked) -> Iterator[Line]:
    """Commands on a data set of many runs, each in a process of its own; written beforehand, outside the clock."""
    count = RUNS // 20 if asked.quick else RUNS
    with tempfile.TemporaryDirectory(dir=asked.build) as scratch:
        many.make(f"{scratch}/dataset", count, 0)
        for command in ("show", "table"):
            took = many.command(Path(scratch), command, "dataset")
            for what, figure, bar in (
                ("seconds", took.seconds, READ_BAR_S),
                ("peak MiB", took.peak_mib, READ_BAR_MIB),
            ):
                barred = count == RUNS
                measure = f"{what} of `loadgen-report {command}` on {count} runs"
                yield Line("read", measure, f"{figure:.1f}", f"<= {bar:.0f}" if barred else "", figure <= bar if barred else None)


CASES = {"parquet": parquet, "read": reading}
