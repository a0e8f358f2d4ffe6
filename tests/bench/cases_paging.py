"""The paging rate against the bare loops, and what an access costs when nothing faults."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.bare import BareShape, Waiting, compile_bare
from tests.bench.lines import Asked, Line
from tests.bench.ours import Measured, Shape, in_process
from tests.bench.pairs import interleave, interval, ratios
from tests.bench.rig import Rig

CPUS = tuple(sorted(os.sched_getaffinity(0)))
BARS = {"uffd_wait": 0.95, "no_uffd_wait": 0.95, "no_slow_gup": 0.90}
MULTIPROCESS_BAR = 0.90
VCPUS = (1, 2, 8)
WARM_UP = 2
CALIBRATION_PAGES = 32768
CALIBRATION_PASSES = 4
MARGIN = 1.4
BESIDE = 3
"""A figure beside those that have a bar gets one of so many of the pairs."""
RESIZES = 3
NULL_PAGES = 16384
NULL_BAR_NS = 60.0


@dataclass(frozen=True)
class Against:
    """One comparison with a bare loop: a strategy at a number of vCPUs, where its readers run, one process or many."""

    strategy: str
    vcpus: int
    bar: float
    processes: bool = False
    readers_apart: bool = False
    reader_cpus: tuple[int, ...] = CPUS
    note: str = ""
    beside: bool = False
    engine: str = "thread"
    swapped: bool = False

    def pairs(self, asked: Asked) -> int:
        """Pairs to measure."""
        return max(2, asked.pairs // BESIDE) if self.beside else asked.pairs

    @property
    def loop(self) -> str:
        """The bare loop's name."""
        engine, pages = "" if self.engine == "thread" else f"{self.engine}_", "_swapped" * self.swapped
        return f"bare_{engine}{self.strategy}{pages}"

    def bare(self, pages: int) -> BareShape:
        """The bare loop's side."""
        readers = 1 if self.processes else min(self.vcpus, 2)
        return BareShape(
            pages,
            self.vcpus,
            readers,
            vcpu_cpus=CPUS,
            reader_cpus=self.reader_cpus,
            processes=self.processes,
            readers_apart=self.readers_apart,
        )

    def ours(self, pages: int) -> Shape:
        """Our side, with the same memory, threads and pinning."""
        bare = self.bare(pages)
        return Shape(
            self.strategy,
            pages,
            self.vcpus,
            bare.readers,
            vcpu_cpus=CPUS,
            reader_cpus=self.reader_cpus,
            engine=self.engine,
            memory="anon" if self.swapped else "shmem",
            kind="swapped" if self.swapped else "minor",
        )


def pages_for(rate_per_s: float, seconds: float, vcpus: int) -> int:
    """Pages that take `seconds` at `rate_per_s`, a multiple of 512 a vCPU, at most a quarter of free memory."""
    free_pages = os.sysconf("SC_AVPHYS_PAGES")
    step = 512 * vcpus
    return min(max(round(rate_per_s * seconds), step), free_pages // 4) // step * step


def bare_rate(asked: Asked, against: Against, pages: int) -> float:
    """The bare loop's pages a second on a small region: what the region of the pairs is sized by."""
    program = compile_bare(against.loop, asked.build)
    with Waiting(program, against.bare(pages).arguments(CALIBRATION_PASSES)) as loop:
        return max(float(loop.measure()["pages_per_s"]) for _ in range(CALIBRATION_PASSES))


def pages_that_last(asked: Asked, against: Against, run: Callable[[Shape], Measured]) -> int:
    """Pages that keep each side busy for the seconds asked, by the bare rate and then by what trial pairs took."""
    pages = pages_for(bare_rate(asked, against, CALIBRATION_PAGES), asked.seconds * MARGIN, against.vcpus)
    program = compile_bare(against.loop, asked.build)
    for _ in range(RESIZES):
        with Waiting(program, against.bare(pages).arguments(WARM_UP)) as loop:
            shortest = min(min(run(against.ours(pages)).seconds, float(loop.measure()["seconds"])) for _ in range(WARM_UP))
        if shortest >= asked.seconds:
            break
        pages = pages_for(pages / shortest, asked.seconds * MARGIN, against.vcpus)
    return pages


def compare(asked: Asked, case: str, against: Against, run: Callable[[Shape], Measured]) -> Line:
    """Pairs of our run and the bare loop's pass; the ratio of their rates."""
    pages = pages_that_last(asked, against, run)
    shape = against.ours(pages)
    program = compile_bare(against.loop, asked.build)
    shortest = [float("inf")]

    def ours() -> float:
        found = run(shape)
        if found.pages != pages:
            raise RuntimeError(f"{against.strategy}: {found.pages} pages brought, {pages} asked")
        shortest[0] = min(shortest[0], found.seconds)
        return found.pages_per_s

    with Waiting(program, against.bare(pages).arguments(against.pairs(asked) + WARM_UP)) as loop:

        def theirs() -> float:
            found = loop.measure()
            shortest[0] = min(shortest[0], float(found["seconds"]))
            return float(found["pages_per_s"])

        interleave(ours, theirs, WARM_UP)
        left, right = interleave(ours, theirs, against.pairs(asked))
    ratio = interval(ratios(left, right))
    where = f"{against.strategy}, {against.vcpus} vCPU{'s' * (against.vcpus > 1)}"
    rates = f"{interval(left).median / 1e3:.0f} of {interval(right).median / 1e3:.0f} kpages/s"
    return Line(
        case,
        f"{where}{against.note}: ours / bare",
        str(ratio),
        f">= {against.bar:.2f}",
        ratio.reaches(against.bar),
        f"{rates}, {pages} pages, shortest side {shortest[0]:.2f} s",
    )


def bare(asked: Asked) -> Iterator[Line]:
    """All vCPUs in one VMM process, records and word verification on."""
    for strategy, bar in BARS.items():
        for vcpus in VCPUS:
            yield compare(asked, "bare", Against(strategy, vcpus, bar), in_process)
    other = CPUS[1:2] or CPUS
    apart = Against("uffd_wait", 1, BARS["uffd_wait"], reader_cpus=other, note=", reader on another CPU", beside=True)
    yield compare(asked, "bare", apart, in_process)


def multiprocess(asked: Asked) -> Iterator[Line]:
    """One VMM process a vCPU, against a bare loop of as many processes.

    `uffd_wait` twice: against readers in a process of their own, as our page server's are, and against a reader inside
    each vCPU's process, which a page server cannot be.
    """
    for vcpus in (2, 8):
        with Rig(vcpus) as rig:
            for strategy in BARS:
                against = Against(strategy, vcpus, MULTIPROCESS_BAR, processes=True, readers_apart=True)
                yield compare(asked, "multiprocess", against, rig.run)
            note = ", bare readers inside the VMMs"
            inside = Against("uffd_wait", vcpus, MULTIPROCESS_BAR, processes=True, note=note, beside=True)
            yield compare(asked, "multiprocess", inside, rig.run)


def across(asked: Asked) -> Iterator[Line]:
    """`uffd_wait` with the readers in another process than the vCPUs, against all in one process; and what of it is not the
    kernel's own price of going from one address space to another, which a bare loop pays too."""
    for vcpus in VCPUS:
        yield _across(asked, Against("uffd_wait", vcpus, 1.0, beside=True))


def _across(asked: Asked, against: Against) -> Line:
    pages = pages_for(bare_rate(asked, against, CALIBRATION_PAGES), asked.seconds * MARGIN, against.vcpus)
    pairs = against.pairs(asked)
    shape, bare_same = against.ours(pages), against.bare(pages)
    bare_other = dataclasses.replace(bare_same, processes=True, one_vmm=True, readers_apart=True)
    program = compile_bare(against.loop, asked.build)
    with (
        Rig(1) as rig,
        Waiting(program, bare_other.arguments(pairs + WARM_UP)) as other,
        Waiting(program, bare_same.arguments(pairs + WARM_UP)) as same,
    ):

        def in_turn() -> tuple[float, float]:
            ours = rig.run(shape).pages_per_s / in_process(shape).pages_per_s
            return ours, float(other.measure()["pages_per_s"]) / float(same.measure()["pages_per_s"])

        found = [in_turn() for _ in range(WARM_UP + pairs)][WARM_UP:]
    ours, bare = (interval([one[side] for one in found]) for side in (0, 1))
    beyond = interval([one[0] / one[1] for one in found])
    return Line(
        "across",
        f"uffd_wait, {against.vcpus} vCPUs: readers in another process / in this one, beyond what a bare loop loses",
        str(beyond),
        f">= {against.bar:.2f}",
        beyond.reaches(against.bar),
        f"ours {ours}, bare {bare}",
    )


def null(asked: Asked) -> Iterator[Line]:
    """`null` on mapped pages, verification off, beyond a bare touch of as many pages in as random an order."""
    program = compile_bare("null_touch", asked.build)
    with ExitStack() as stack:

        def touch(passes: int) -> Waiting:
            arguments = [str(NULL_PAGES), str(passes), str(CPUS[0])]
            return stack.enter_context(Waiting(program, arguments))

        def shape(passes: int) -> Shape:
            return Shape(
                "null",
                NULL_PAGES,
                vcpu_cpus=CPUS[:1],
                kind="hit",
                passes=passes,
                verify="none",
            )

        bare_passes = round(asked.seconds * MARGIN * 1e9 / NULL_PAGES / float(touch(200).measure()["ns_per_access"]))
        passes = round(asked.seconds * MARGIN * 1e9 / NULL_PAGES / in_process(shape(20)).ns_per_access)
        loop = touch(bare_passes)

        def ours() -> float:
            return in_process(shape(passes)).ns_per_access

        def theirs() -> float:
            return float(loop.measure()["ns_per_access"])

        interleave(ours, theirs, WARM_UP)
        left, right = interleave(ours, theirs, asked.pairs)
    beyond = interval([a - b for a, b in zip(left, right, strict=True)])
    yield Line(
        "null",
        "ns an access beyond the bare touch",
        str(beyond),
        f"< {NULL_BAR_NS:.0f}",
        beyond.low < NULL_BAR_NS,
        f"{interval(left).median:.1f} ns, bare {interval(right).median:.1f} ns",
    )


CASES = {"bare": bare, "multiprocess": multiprocess, "across": across, "null": null}
