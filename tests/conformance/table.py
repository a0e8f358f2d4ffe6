"""The conformance table: strategy x memory x page state -> how a fault ends, and exact counts.

One table, two readers: `test_conformance.py` runs every row on the real kernel, `tools.conformance` prints it. The counts
are those of one page touched once, at 1 vCPU without disturbance. What the table does not have, the legality matrix must refuse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ONE_BY_ONE = "eager, populate_pages=1"
STRATEGIES = ("uffd_wait", "no_slow_gup", "no_uffd_wait", "no_uffd_wait, exit_via=populate", "populate", ONE_BY_ONE, "null")
"""Each strategy by the name the table gives it; what follows a comma is an option that is not its default."""

ELSEWHERE = ("file_map",)
"""Strategies without a line: `file_map` has a memory type of its own, whose pages are the page cache's
(`tests/workers/test_baselines.py`)."""

MEMORIES = ("shmem", "anon", "hugetlb")
STATES = ("hit", "minor", "absent", "swapped", "poisoned at the source", "poisoned after resolving")

COUNTED = (
    "trips",
    "trips_resolved",
    "resolved_again",
    "populate_ok",
    "populate_failed",
    "populate_waits",
    "retries",
    "memory_errors",
    "pages_poisoned",
    "requests",
    "events",
    "events_resolved",
    "events_poisoned",
    "lost_races",
    "stray_waits",
    "eexist",
)
"""Counters a row speaks of; those it does not name are 0. Of vCPUs and page server together, a request counted once."""


@dataclass(frozen=True)
class Row:
    """What becomes of a page. `outcome` None: the access does not fault. `ends`: the page's state in the VMM's record."""

    strategy: str
    memory: str
    state: str
    outcome: str | None
    ends: str
    counts: Mapping[str, int]

    @property
    def id(self) -> str:
        """Its name among tests."""
        return f"{self.strategy}-{self.memory}-{self.state}"


HIT, MINOR, ABSENT, SWAPPED, AT_SOURCE, BEHIND = STATES
SHARED = ("shmem", "hugetlb")
EXITS = ("no_slow_gup", "no_uffd_wait", "no_uffd_wait, exit_via=populate")
SIGBUS_EXITS = EXITS[1:]
RESOLVING = ("uffd_wait", *EXITS, "populate")

ASKS_THE_KERNEL = {"populate_failed": 1}
"""Before a page that was resolved is called an error or resolved again, MADV_POPULATE_WRITE says what it is."""
SLEEPS_IN_POPULATE = {"populate_ok": 1, "populate_waits": 1, "events": 1}
ERROR = {"trips": 1, "memory_errors": 1}


def rows() -> Iterator[Row]:
    """Every row, in the order of STRATEGIES, MEMORIES and STATES."""
    found = {(row.strategy, row.memory, row.state): row for row in _rows()}
    for strategy in STRATEGIES:
        for memory in MEMORIES:
            for state in STATES:
                if (strategy, memory, state) in found:
                    yield found[strategy, memory, state]


def _rows() -> Iterator[Row]:
    # Mapped: no access faults, whatever the strategy.
    yield from _over([name for name in STRATEGIES if name != ONE_BY_ONE], MEMORIES, HIT, None, "resolved")

    # Everything is mapped before the first access, within the clock; of anonymous memory nothing is there beforehand.
    asked_for = {"requests": 1}
    yield from _over((ONE_BY_ONE,), SHARED, HIT, None, "resolved")
    yield from _over((ONE_BY_ONE,), ("anon",), HIT, None, "resolved", asked_for)
    yield from _over((ONE_BY_ONE,), SHARED, MINOR, None, "resolved")
    yield from _over((ONE_BY_ONE,), MEMORIES, ABSENT, None, "resolved", asked_for)

    # Today's kernel: a reader answers each event and wakes.
    served = {"events": 1, "events_resolved": 1}
    yield from _over(("uffd_wait",), SHARED, MINOR, "waited", "resolved", served)
    yield from _over(("uffd_wait",), MEMORIES, ABSENT, "waited", "resolved", served)
    yield from _over(("uffd_wait",), ("shmem",), SWAPPED, "waited", "resolved", {"events": 1, "resolved_again": 1})
    poisoned = {"events": 1, "events_poisoned": 1, "pages_poisoned": 1}
    yield from _over(("uffd_wait",), MEMORIES, AT_SOURCE, "memory_error", "poisoned", ERROR | poisoned)

    # The exit strategies: the vCPU resolves by itself, and asks the page server for what is not here.
    resolves = {"trips": 1, "trips_resolved": 1}
    yield from _over(EXITS, SHARED, MINOR, "resolved", "resolved", resolves)
    yield from _over(EXITS, MEMORIES, ABSENT, "resolved", "resolved", resolves | {"requests": 1})
    yield from _over(EXITS, MEMORIES, AT_SOURCE, "memory_error", "poisoned", ERROR | {"requests": 1, "pages_poisoned": 1})

    # Swapped out. Anonymous memory: the kernel's slow paths bring the page back, except where only fast GUP is tried.
    yield from _over(("uffd_wait", *SIGBUS_EXITS), ("anon",), SWAPPED, "kernel", "resolved")
    yield from _over(("no_slow_gup", "populate"), ("anon",), SWAPPED, "populated", "resolved", {"trips": 1, "populate_ok": 1})
    # Shared memory: the PTE is blank, and the minor fault comes again, for the populate too.
    again = {"trips": 1, "resolved_again": 1}
    sleeps = again | SLEEPS_IN_POPULATE
    yield from _over(("no_slow_gup", "populate"), ("shmem",), SWAPPED, "populated", "resolved", sleeps)
    yield from _over(("no_uffd_wait",), ("shmem",), SWAPPED, "resolved", "resolved", again | ASKS_THE_KERNEL)
    yield from _over(SIGBUS_EXITS[1:], ("shmem",), SWAPPED, "resolved", "resolved", again)

    # Poisoned behind the VMM's back: the record says resolved, the kernel says what it is. There the exit is the question.
    asked = [name for name in RESOLVING if not name.endswith("exit_via=populate")]
    yield from _over(asked, MEMORIES, BEHIND, "memory_error", "resolved", ERROR | ASKS_THE_KERNEL)
    yield from _over(SIGBUS_EXITS[1:], MEMORIES, BEHIND, "memory_error", "resolved", ERROR)

    # Populate without resolving: it drops into userfaultfd itself, and the reader's resolve unblocks it.
    loops = {"trips": 1, "events_resolved": 1} | SLEEPS_IN_POPULATE
    yield from _over(("populate",), SHARED, MINOR, "populated", "resolved", loops)
    yield from _over(("populate",), SHARED, ABSENT, "populated", "resolved", loops | {"requests": 1})
    yield from _over(("populate",), ("anon",), ABSENT, "populated", "resolved", loops)  # its contents come with the resolve
    # The page server's answer poisons it in every mapping, this one too: the vCPU looks again and finds it so.
    twice = {"trips": 2, "retries": 1, "memory_errors": 1, "pages_poisoned": 1}
    yield from _over(("populate",), SHARED, AT_SOURCE, "memory_error", "poisoned", twice | {"requests": 1})
    woken = poisoned | {"populate_waits": 1, "populate_failed": 1}
    yield from _over(("populate",), ("anon",), AT_SOURCE, "memory_error", "poisoned", twice | woken)

    # No userfaultfd: the kernel's own minor fault.
    yield from _over(("null",), SHARED, MINOR, "kernel", "resolved")
    yield from _over(("null",), ("shmem",), SWAPPED, "kernel", "resolved")


def _over(
    strategies: tuple[str, ...] | list[str],
    memories: tuple[str, ...],
    state: str,
    outcome: str | None,
    ends: str,
    counts: Mapping[str, int] | None = None,
) -> Iterator[Row]:
    for strategy in strategies:
        for memory in memories:
            if (strategy, memory) != ("null", "anon"):
                yield Row(strategy, memory, state, outcome, ends, counts or {})
