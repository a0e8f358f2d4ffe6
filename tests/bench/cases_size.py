"""Sizes that must simply work: 256 vCPUs in one VMM process, a region of 4 GiB."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.cases_paging import BARS, CPUS
from tests.bench.lines import Asked, Line
from tests.bench.ours import PAGE_BYTES, Shape, in_process


def run_to_end(case: str, measure: str, shape: Shape) -> Line:
    """One run of the shape: met when every page asked for was resolved and every word right."""
    found = in_process(shape)
    return Line(
        case,
        f"{measure}, {shape.strategy}",
        f"{found.pages_per_s / 1e3:.0f} kpages/s",
        f"{shape.pages} pages",
        found.pages == shape.pages,
        f"{found.pages} pages in {found.seconds:.2f} s",
    )


def many_vcpus(asked: Asked) -> Iterator[Line]:
    """256 vCPU threads on one userfaultfd."""
    pages = 256 * (64 if asked.quick else 512)
    for strategy in BARS:
        shape = Shape(strategy, pages, 256, 2, vcpu_cpus=CPUS, reader_cpus=CPUS)
        yield run_to_end("256", "256 vCPUs in one VMM process", shape)


def large_region(asked: Asked) -> Iterator[Line]:
    """4 GiB, a record kept of each of its 1,048,576 faults."""
    for strategy in ("no_slow_gup",) if asked.quick else tuple(BARS):
        shape = Shape(strategy, (4 << 30) // PAGE_BYTES, 8, 2, vcpu_cpus=CPUS, reader_cpus=CPUS)
        yield run_to_end("4gib", "4 GiB region, 8 vCPUs", shape)


CASES = {"256": many_vcpus, "4gib": large_region}
