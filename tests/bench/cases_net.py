"""Net rates of emulated exits against a bare loop that makes none: it resolves what it has not resolved yet, and touches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from results.derive.columns import derive
from results.derive.latencies import FaultLatencies
from tests.bench.bare import BareShape, Waiting, compile_bare
from tests.bench.cases_paging import CPUS, WARM_UP
from tests.bench.lines import Asked, Line
from tests.bench.ours import Shape, in_process
from tests.bench.pairs import Interval, interval
from workers import _native

AROUND = (1, 16, 512)
VCPUS = (1, 2)
PAGES_PER_VCPU = 32768
GOAL = 0.10


@dataclass(frozen=True)
class Exits:
    """A strategy whose exits are emulated, with the options that matter; `bar`: its net rate should be the loop's."""

    name: str
    strategy: str
    options: Mapping[str, int] = field(default_factory=dict)
    bar: bool = True
    pages_per_vcpu: int = PAGES_PER_VCPU


EXITS = (
    Exits("no_uffd_wait", "no_uffd_wait"),
    Exits("no_slow_gup", "no_slow_gup"),
    Exits("no_uffd_wait, exit_via=populate", "no_uffd_wait", {"exit_via": 1}),
    Exits("populate (a reader resolves)", "populate", bar=False, pages_per_vcpu=4096),
)


RATES = ("pages_per_s", "pages_per_s_net_low", "pages_per_s_net_high")
CPU_TIMES = ("cpu_ns_per_page", "cpu_ns_per_page_net_low", "cpu_ns_per_page_net_high")


class NoNet(RuntimeError):
    """A measured phase has no net figure."""


def net_columns(shape: Shape) -> dict[str, float]:
    """RATES and CPU_TIMES of one measured phase, calibrated before and after it as the driver does. Raises NoNet where there
    is no net figure."""
    kind = _native.exit_kind(shape.strategy, shape.all_options)
    before = _native.calibrate(kind, shape.memory, shape.pages // shape.vcpus)
    found = in_process(shape)
    after = _native.calibrate(kind, shape.memory, shape.pages // shape.vcpus)
    costs = {f"emulated_{name}_ns": (before[f"{name}_ns"] + after[f"{name}_ns"]) / 2 for name in ("exit", "slow_gup", "entry")}
    row = {"pages_resolved": found.accesses, "cores": len(CPUS), **costs, **found.counters}  # each page is touched once
    threads = [{"role": "vcpu", **vcpu["usage"]} for vcpu in found.vcpus]
    columns = derive(row, found.vcpus, FaultLatencies(), threads)
    if None in (columns[name] for name in (*RATES, *CPU_TIMES)):
        raise NoNet("emulated operations leave less than a tenth of the time")
    return columns


def net(asked: Asked) -> Iterator[Line]:
    """Every strategy at every size of a fault and number of vCPUs: rates, and CPU time of vCPUs a page, which holds on a busy
    machine too."""
    for vcpus in VCPUS[: len(CPUS)]:
        for around in AROUND:
            for exits in EXITS:
                try:
                    yield from _compare(asked, exits, around, vcpus)
                except NoNet as why:
                    where = f"{exits.name}, {around} pages a fault, {vcpus} vCPU{'s' * (vcpus > 1)}"
                    yield Line("net", f"{where}: net / loop without exits", "-", met=False if exits.bar else None, note=str(why))


def _compare(asked: Asked, exits: Exits, around: int, vcpus: int) -> Iterator[Line]:
    shape = Shape(
        exits.strategy,
        exits.pages_per_vcpu * vcpus,
        vcpus,
        vcpu_cpus=CPUS,
        reader_cpus=CPUS[::-1],
        fault_around_pages=around,
        options=exits.options,
    )
    bare = BareShape(shape.pages, vcpus, vcpu_cpus=CPUS)
    pairs = max(3, asked.pairs // 3)
    program = compile_bare("bare_no_exit", asked.build)
    ratios: dict[str, list[float]] = {name: [] for name in (*RATES, *CPU_TIMES)}
    loops: dict[str, list[float]] = {name: [] for name in (RATES[0], CPU_TIMES[0])}
    for pair in range(pairs + WARM_UP):
        # Both sides walk memory that is walked for the first time: a second pass finds its lines in the caches.
        with Waiting(program, [*bare.arguments(1), "--around", str(around)]) as loop:
            theirs = loop.measure()
        ours = net_columns(dataclasses.replace(shape, seed=pair + 1))
        if pair < WARM_UP:
            continue
        for names in (RATES, CPU_TIMES):
            loops[names[0]].append(float(theirs[names[0]]))
            for name in names:
                ratios[name].append(ours[name] / float(theirs[names[0]]))
    where = f"{exits.name}, {around} pages a fault, {vcpus} vCPU{'s' * (vcpus > 1)}"
    for what, names in (("rate", RATES), ("CPU time a page", CPU_TIMES)):
        raw, low, high = (interval(ratios[name]) for name in names)
        met = low.low <= 1 + GOAL and high.high >= 1 - GOAL
        beside = f"raw {raw}, the loop {interval(loops[names[0]]).median:.0f} {'ns' if what != 'rate' else 'pages/s'}"
        bar = f"1 +- {GOAL:.2f}" if exits.bar else ""
        yield Line("net", f"{where}: net {what} / loop without exits", _text(low, high), bar, met if exits.bar else None, beside)


def _text(low: Interval, high: Interval) -> str:
    return str(low) if low == high else f"{low} to {high}"


CASES = {"net": net}
