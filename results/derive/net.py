"""Net of what the thread engine emulates. This is the only place that defines it.

A run counts its emulated operations and stores what each costs on its host, calibrated before and after it. Net subtracts
operations, never trips, from each vCPU's own time. It is null where that is not the vCPU's own CPU time: under a rate, think or
hold time, and where vCPUs outnumber their CPUs; and where too little is left for a calibrated cost to be subtracted. CPU time a
page holds there too: what a vCPU spins until an access is due is counted, and is no page's. Slow GUP inside a refused access
cannot be separated from the exit, and the proposal pays for it: net of it is a bracket, from the exit alone subtracted (low, for
rates) to the exit with slow GUP (high).

A stage-2 violation that makes no exit (a page that was mapped before) is subtracted under every strategy, since those that exit
by signal pay nothing for one. Neighbours that a vCPU's fault-around brings cost no strategy one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.derive.latencies import FaultLatencies
from results.derive.rounds import measured_s, starts_and_ends

Row = Mapping[str, Any]

EXITS = ("emulated_probes_missed", "emulated_signals", "emulated_populates_refused")
"""Counters of emulated exits."""

ENTRIES = ("emulated_probes_found", "emulated_populates_done")
"""Counters of emulated stage-2 violations that make no exit."""

LEAST_LEFT = 0.1
"""Share of the raw figure that must be left: of less, the calibration's own error is a large part."""

MOST_CHANGE = 0.10
"""Most by which the calibrations before and after a run may differ, as a part of the smaller."""

MOST_OFF = 0.25
"""Most by which an emulated exit may take another time in the run's own records than in its calibrations."""

WAITS = ("rate_per_s", "think_ns", "hold_ns")
"""Where one of these is not 0, vCPUs wait until an access is due."""

ANSWERING = ("reader", "ring", "handler")
"""Roles of the threads that answer vCPUs."""

COLUMNS = ("pages_per_s", "faults_per_s", "latency_p50", "cpu_ns_per_page")


@dataclass(frozen=True)
class Costs:
    """Calibrated ns of an emulated exit, of the slow GUP in it at most, and of an emulated stage-2 violation without an exit."""

    exit: float
    slow_gup: float
    entry: float

    def least_ns(self, exits: float, entries: float) -> float:
        """What so many operations cost at least: without slow GUP."""
        return exits * (self.exit - self.slow_gup) + entries * self.entry

    def most_ns(self, exits: float, entries: float) -> float:
        """What they cost with it."""
        return exits * self.exit + entries * self.entry


def costs(run: Row) -> Costs | None:
    """What the run's emulated operations cost; None where they were not calibrated, or exits are real."""
    found = [run.get(f"emulated_{name}_ns") for name in ("exit", "slow_gup", "entry")]
    if found[0] is None:
        return None
    exit_ns, slow_gup_ns, entry_ns = (float(value or 0.0) for value in found)
    return Costs(exit_ns, min(slow_gup_ns, exit_ns), entry_ns)


def operations(row: Row) -> tuple[int, int] | None:
    """(emulated exits, emulated stage-2 violations) that a row of `runs` or `vcpus` counted; None where they are not counted."""
    exits, entries = ([row.get(name) for name in names] for names in (EXITS, ENTRIES))
    if None in exits or None in entries:
        return None
    return sum(int(value or 0) for value in exits), sum(int(value or 0) for value in entries)


def why_not(run: Row, vcpus: Sequence[Row]) -> str:
    """Why the run's time is not its vCPUs' own CPU time, so that nothing can be subtracted from it; empty where it is."""
    if run.get("emulated_exit_ns") is None:
        return "nothing is emulated, or nothing was calibrated"
    for column in WAITS:
        if run.get(column):
            return f"{column} is not 0"
    hosts = [row.get("host") for row in vcpus]
    if any(hosts.count(host) > _cpus(run) for host in set(hosts)):
        return "vCPUs outnumber CPUs"
    return ""


def _cpus(run: Row) -> int:
    """CPUs that the vCPUs of a host can be on at once: the run's cores, or fewer where vCPUs are pinned to fewer."""
    pinned = [text.split(",") for text in (run.get("vcpu_cpus") or "").split(";")]
    cores = int(run.get("cores") or 0)
    return min(cores, len({cpu for cpus in pinned for cpu in cpus})) if all(all(cpus) for cpus in pinned) else cores


def net(
    run: Row, vcpus: Sequence[Row], threads: Sequence[Row], latencies: FaultLatencies, duration_s: float | None
) -> dict[str, Any]:
    """The net columns of a `runs` row, by name; `_low` and `_high` of each, and the one figure where they are the same."""
    cost, cpu_ns = costs(run), _cpu_ns(run, vcpus, threads)
    pages, faults = run.get("pages_resolved"), run.get("faults")
    rates: list[tuple[float | None, float | None]] = [(None, None)] * 2
    latency: tuple[float | None, float | None] = (None, None)
    left_s: tuple[float | None, float | None] = (None, None)
    if cost is not None and duration_s is not None and not why_not(run, vcpus):
        left_s = _durations_s(vcpus, cost, duration_s)
        if None not in left_s:
            rates = [_both(_per(amount, left_s[0]), _per(amount, left_s[1])) for amount in (pages, faults)]
        latency = _latency(latencies, cost)
    cpu = _cpu_per_page(run, cost, cpu_ns, pages)
    brackets = dict(zip(COLUMNS, (*rates, latency, cpu), strict=True))
    columns: dict[str, Any] = {"cpu_ns_per_page": _per(cpu_ns, pages)}
    for name, (low, high) in brackets.items():
        unit = "_ns" if name == "latency_p50" else ""
        columns |= {f"{name}_net_low{unit}": low, f"{name}_net_high{unit}": high}
        columns[f"{name}_net{unit}"] = low if low == high else None
    columns["emulated_s"] = None if left_s[1] is None or duration_s is None else duration_s - left_s[1]
    columns["emulated_arrival_p50_ns"] = latencies.arrival.per_mille(500)
    return columns


def _durations_s(vcpus: Sequence[Row], cost: Costs, duration_s: float) -> tuple[float | None, float | None]:
    """The measured seconds with the least and with the most that emulated operations can have cost taken from each vCPU's own
    time; None for both when one leaves too little."""
    left = []
    for cost_ns in (cost.least_ns, cost.most_ns):
        shorter = [_shortened(vcpu, cost_ns) for vcpu in vcpus]
        seconds = None if None in shorter else measured_s([row for row in shorter if row is not None])
        if seconds is None or seconds < LEAST_LEFT * duration_s:
            return None, None
        left.append(seconds)
    return left[0], left[1]


def _shortened(vcpu: Row, cost_ns: Callable[[float, float], float]) -> Row | None:
    """A vCPU's rounds as long as they would have been without its emulated operations, which are as dense in every round."""
    made, rounds = operations(vcpu), starts_and_ends(vcpu)
    whole = sum(end - start for start, end in rounds)
    paid = cost_ns(*(made or (0, 0)))
    if (made is None and cost_ns(1, 1) != 0) or whole <= 0 or paid > whole:
        return None
    share = 1 - paid / whole
    ends = [start + (end - start) * share for start, end in rounds]
    return {"host": vcpu.get("host"), "round_start_ns": [start for start, _ in rounds], "round_end_ns": ends}


def _latency(latencies: FaultLatencies, cost: Costs) -> tuple[float | None, float | None]:
    """The median of the faults' latencies, each without the operations it paid for itself: the most of them (low), the least."""
    raw = latencies.closed(500)
    low = latencies.closed(500, lambda paid: cost.most_ns(*paid))
    high = latencies.closed(500, lambda paid: cost.least_ns(*paid))
    return (None, None) if raw is None or low is None or low < LEAST_LEFT * raw else _both(low, high)


def _cpu_ns(run: Row, vcpus: Sequence[Row], threads: Sequence[Row]) -> int | None:
    """CPU time of the vCPUs while they were measured and did not wait, and of the threads that answer them; None where it
    is not known."""
    waits = [row.get("waiting_cpu_ns") for row in vcpus]
    if None in waits and any(run.get(column) for column in WAITS):  # rows of before it was counted
        return None
    by_round = [row.get("round_cpu_ns") for row in vcpus]
    if vcpus and None not in by_round:
        own = sum(sum(times) for times in by_round if times is not None)
    else:
        used = [_used_ns(row) for row in threads if row.get("role") == "vcpu"]
        if not used or len(used) != len(vcpus) or None in used:
            return None
        own = sum(ns for ns in used if ns is not None)
    own -= sum(waited or 0 for waited in waits)
    return own + sum(_used_ns(row) or 0 for row in threads if row.get("role") in ANSWERING)


def _used_ns(thread: Row) -> int | None:
    user, system = thread.get("user_ns"), thread.get("system_ns")
    return None if user is None or system is None else int(user) + int(system)


def _cpu_per_page(run: Row, cost: Costs | None, cpu_ns: int | None, pages: int | None) -> tuple[float | None, float | None]:
    made = operations(run)
    if cost is None or cpu_ns is None or not pages or (made is None and cost.most_ns(1, 1) != 0):
        return None, None
    left = [cpu_ns - cost_ns(*(made or (0, 0))) for cost_ns in (cost.most_ns, cost.least_ns)]
    if left[0] < LEAST_LEFT * cpu_ns:
        return None, None
    return _both(left[0] / pages, left[1] / pages)


def _both(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    return (None, None) if low is None or high is None else (float(low), float(high))


def _per(amount: float | None, of: float | None) -> float | None:
    return None if amount is None or not of or of < 0 else float(amount) / of


def doubts(run: Row) -> Iterator[str]:
    """A sentence for each reason why the run's calibrations do not hold for it. The figures come last, in brackets."""
    made = operations(run) or (0, 0)
    for name, what, count in (("exit", "an emulated exit", made[0]), ("entry", "an emulated stage-2 violation", made[1])):
        before, after = (run.get(f"emulated_{name}_{when}_ns") for when in ("before", "after"))
        if count and before and after and abs(after - before) > MOST_CHANGE * min(before, after):
            yield f"{what} cost another time after the run than before it ({before:.0f} ns, then {after:.0f} ns)"
    calibrated, seen = run.get("emulated_arrival_ns"), run.get("emulated_arrival_p50_ns")
    if calibrated and seen is not None and abs(seen - calibrated) > MOST_OFF * calibrated:
        yield f"emulated exits did not take the time they were calibrated with ({seen:.0f} ns, calibrated {calibrated:.0f} ns)"


def doubted(run: Row) -> dict[str, Any]:
    """`trusted` and `distrust` of the run with its doubts; empty where it has none."""
    found = list(doubts(run))
    if not found:
        return {}
    return {"trusted": False, "distrust": "; ".join(filter(None, (run.get("distrust"), *found)))}
