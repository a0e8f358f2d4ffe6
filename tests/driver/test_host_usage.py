"""What a run's hosts used while it was measured, as the driver puts it together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from loadgen.cluster.session import Seat
from loadgen.host.interference import Snapshot, snapshot
from loadgen.run.host_usage import Watch
from tests import specs


@dataclass
class QuietHost:
    """A node that is idle; its looks are a second apart."""

    name: str
    looks: list[Snapshot] = field(default_factory=list)

    def look(self) -> Snapshot:
        """The next one."""
        first = self.looks[0] if self.looks else snapshot()
        self.looks.append(replace(first, at_s=first.at_s + len(self.looks)))
        return self.looks[-1]


def columns_of(*names: str, **given: Any) -> dict[str, Any]:
    """Of a run with a guest on each of these hosts."""
    seats = [Seat(number, specs.run(), QuietHost(name), None, []) for number, name in enumerate(names)]
    watch = Watch(seats)
    watch.end()
    return watch.columns([[] for _ in seats], **given)


def test_what_is_the_runs_and_no_hosts_is_given_once() -> None:
    columns = columns_of("a", "b", "c", lag_s=0.31, unprepared=7)
    assert columns["driver_lag_s"] == 0.31
    assert columns["distrust"] == "pages were not in the state asked for (7); status poll late (0.31 s)"


def test_a_late_poll_flags_a_run_on_one_host_without_its_name() -> None:
    columns = columns_of("a", lag_s=0.31, unprepared=0)
    assert (columns["trusted"], columns["distrust"]) == (False, "status poll late (0.31 s)")
