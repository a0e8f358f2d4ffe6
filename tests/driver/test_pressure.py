"""What limits did to a run, from looks at its hosts before, during and after it; and what several hosts come to together."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from loadgen.host.cgroups import Pressure, Quota
from loadgen.run.host_usage import _busiest
from loadgen.run.pressure import Pressures


@dataclass
class OneHost:
    """A host that has these CPUs, and whose looks are these in turn, the last one again and again."""

    name: str
    looks: list[Pressure]
    cpus: float | None = None
    host: Any = field(init=False)

    def __post_init__(self) -> None:
        quota = None if self.cpus is None else Quota(self.cpus, "/g/cpu.max")
        self.host = SimpleNamespace(limits=SimpleNamespace(cpu_quota=quota))

    def pressure(self) -> Pressure:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def looked(*hosts: OneHost) -> Pressures:
    pressures = Pressures(hosts)  # type: ignore[arg-type]
    pressures.begin()
    pressures.end()
    return pressures


def throttled(*seconds: float) -> list[Pressure]:
    return [Pressure(throttled_s=one) for one in seconds]


def test_the_smallest_quota_and_the_most_throttled_host_stand() -> None:
    columns = looked(OneHost("a", throttled(5, 5, 5.2), 4.0), OneHost("b", throttled(0, 1, 1.5), 2.0)).columns("status poll late")
    assert columns["cpu_quota"] == 2.0 and columns["throttled_s"] == pytest.approx(0.5)
    assert columns["trusted"] is False and columns["distrust"] == "status poll late; throttled by a CPU quota (0.50 s, 2 CPUs)"


def test_what_was_throttled_before_the_measured_phase_flags_no_run() -> None:
    assert looked(OneHost("a", throttled(0, 7, 7), 4.0)).columns(None) == {"cpu_quota": 4.0, "throttled_s": 0.0}
    assert looked(OneHost("a", throttled(0, 0, 0))).columns(None) == {"cpu_quota": None, "throttled_s": None}


def kills(own: int | None, host: int | None) -> Pressure:
    return Pressure(oom_kills=own, host_oom_kills=host)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (kills(1, 5), "a process was killed for lack of memory: the host has no memory left; lost"),
        (kills(0, 9), "lost"),  # its own group counts, and counted none
        (kills(0, 5), "lost"),
    ],
)
def test_the_count_of_the_own_group_decides_what_a_kill_was(after: Pressure, said: str) -> None:
    assert looked(OneHost("a", [kills(0, 5), kills(0, 5), kills(0, 5), after])).explained("lost") == said


def test_a_kill_that_only_the_host_counts_is_no_cause() -> None:
    said = looked(OneHost("a", [kills(None, 5)] * 3 + [kills(None, 6)])).explained("lost")
    assert said == "lost; a process was killed for lack of memory meanwhile, this one or another"


def seen(trusted: bool | None, distrust: str | None, **columns: Any) -> dict[str, Any]:
    return {
        "trusted": trusted,
        "distrust": distrust,
        "driver_lag_s": None,
        "involuntary_switches": 2,
        "watched_s": 1.0,
        **columns,
    }


def test_of_several_hosts_the_busiest_stands_switches_are_summed_and_each_doubt_names_its_host() -> None:
    busy = seen(False, "other processes were busy (1.90 of 2 CPUs)", watched_s=3.0, driver_lag_s=0.1)
    merged = _busiest({"a": seen(True, None), "b": busy})
    assert (merged["watched_s"], merged["driver_lag_s"], merged["involuntary_switches"]) == (3.0, 0.1, 4)
    assert merged["trusted"] is False and merged["distrust"] == "other processes were busy on b (1.90 of 2 CPUs)"


@pytest.mark.parametrize(("first", "second", "both"), [(True, True, True), (True, None, None), (None, None, None)])
def test_a_run_is_trusted_where_each_of_its_hosts_was_judged(first: bool | None, second: bool | None, both: bool | None) -> None:
    merged = _busiest({"a": seen(first, None), "b": seen(second, None)})
    assert merged["trusted"] is both and merged["distrust"] is None
