"""Random configurations, as overrides of the command line. What is legal is not known here: the driver's validation decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests import foreign_snapshot
from workers.registry import engine_entries, strategy_entries

MIXES = ("minor", "absent", "hit", "mixed", "postcopy", "swapped", "poisoned")
KINDS = ("hit", "minor", "absent", "swapped", "poisoned")
LARGEST_OPTION = 64
HELD_S = 0.5
"""Least length of the measured phase of a run that something is done to."""
PATIENCE_S = 15.0
SHORT_PATIENCE_S = 2.0


@dataclass(frozen=True)
class Harm:
    """What is done to a process of a run while it is measured: `kill`, `pause` for a while, or `freeze` for good; to the page
    server or to a VMM process. `after_s`: when, from the start of the measured phase."""

    what: str
    whose: str
    after_s: float


@dataclass(frozen=True)
class Drawn:
    """A configuration, and what is done to its run."""

    overrides: tuple[str, ...]
    harm: Harm | None


def draw(seed: int, number: int, folder: Path, try_: int = 0) -> Drawn:
    """The configuration `number` of a soak, the same at each call; `try_`: another one in the place of one that was refused.
    Its trace, working set and foreign snapshot are files in `folder`."""
    chance = Random(f"{seed} {number} {try_}")
    harm = _harm(chance) if chance.random() < 0.2 else None
    guest = [*_guest(chance)]
    overrides = [*guest, *_accesses(chance, folder), *_beside(chance), *_server(chance, folder), *_measured(chance)]
    if "source=file" in overrides and chance.random() < 0.5:
        overrides += _foreign_snapshot(guest, folder)
    return Drawn((*overrides, *_of_harm(chance, harm)), harm)


def _foreign_snapshot(guest: list[str], folder: Path) -> Iterator[str]:
    """A snapshot of the region's size that no seed has made."""
    [mib] = (one.partition("=")[2] for one in guest if one.startswith("memory.region_mib="))
    yield f"source.file={foreign_snapshot.write(folder / 'guest.mem', int(mib) << 20)}"
    yield "source.contents=file"


def _harm(chance: Random) -> Harm:
    what = chance.choices(("kill", "pause", "freeze"), (5, 4, 1))[0]
    return Harm(what, chance.choice(("the page server", "a VMM process")), chance.uniform(0.0, 0.3))


def _of_harm(chance: Random, harm: Harm | None) -> Iterator[str]:
    patience_s = SHORT_PATIENCE_S if harm is not None and harm.what == "freeze" else PATIENCE_S
    yield f"watchdog_s={patience_s:g}"
    if harm is None or harm.what != "freeze":
        yield f"recover={_word(chance.random() < 0.5)}"
    if harm is not None:
        yield f"access.hold_s={HELD_S}"


def _guest(chance: Random) -> Iterator[str]:
    """Engine, strategy, memory, fault mix, vCPUs."""
    strategy = strategy_entries()[chance.choice(sorted(strategy_entries()))]
    yield f"strategy={strategy['name']}"
    for option in strategy["options"]:
        if chance.random() < 0.4:
            most = min(option["maximum"], LARGEST_OPTION)
            value = chance.choice(option["choices"]) if option["choices"] else chance.randint(option["minimum"], most)
            yield f"strategy.{option['name']}={value}"
    engines = [name for name, entry in sorted(engine_entries().items()) for _ in range(4 if entry["emulates_exits"] else 1)]
    yield f"engine={chance.choice(engines)}"
    memory = chance.choices(("shmem", "anon", "hugetlb"), (6, 3, 1))[0]
    yield f"memory={memory}"
    yield f"memory.region_mib={8 if memory == 'hugetlb' else chance.choice((1, 1, 2, 4))}"
    yield from _mix(chance)
    vcpus = chance.choice((1, 2, 2, 3, 4, 4))
    yield f"vcpus={vcpus}"
    yield f"vcpus_per_vmm={vcpus if memory == 'anon' and chance.random() < 0.9 else chance.choice(_divisors(vcpus))}"
    yield f"uffds_per_vmm={chance.choice((1, 1, 1, 2, 5))}"
    yield f"guests={2 if chance.random() < 0.1 else 1}"
    yield f"placement={chance.choice(('none', 'spread', 'pack'))}"


def _mix(chance: Random) -> Iterator[str]:
    if chance.random() < 0.6:
        mix = chance.choice(MIXES)
        yield f"fault_mix={mix}"
        swapped = mix in ("swapped", "postcopy")
    else:
        kinds = chance.sample(KINDS, chance.randint(1, len(KINDS)))
        yield "fault_mix=minor"
        yield from (f"fault_mix.{kind}={1 / len(kinds) if kind in kinds else 0}" for kind in KINDS)
        swapped = "swapped" in kinds
    if chance.random() < 0.3:
        yield f"fault_mix.poisoned_at={chance.choice(('source', 'resolved'))}"
    if swapped and chance.random() < 0.9:
        yield f"swap={chance.choices(('zram', 'file'), (4, 1))[0]}"


def _accesses(chance: Random, folder: Path) -> Iterator[str]:
    order = chance.choice(("sequential", "permutation", "permutation", "uniform", "zipf", "strided", "trace", "none"))
    yield f"access={order}"
    if order == "none":
        yield "access.hold_s=0.05"
        return
    if order == "trace":
        yield f"access.trace_file={_page_numbers(chance, folder / 'trace', 200)}"
    if order == "strided":
        yield f"access.stride_pages={chance.randint(1, 40)}"
    if order == "zipf":
        yield f"access.zipf_exponent={chance.choice((0.5, 1.0, 1.1, 2.0))}"
    yield f"access.overlap={_word(chance.random() < 0.5)}"
    yield f"access.read_share={chance.choice((1.0, 1.0, 0.5, 0.0))}"
    yield f"access.passes={chance.choice((1, 1, 2, 5))}"
    if chance.random() < 0.3:
        yield f"access.accesses={chance.randint(1, 400)}"
    if chance.random() < 0.2:
        yield f"access.think_us={chance.choice((1, 20, 60))}"
    if chance.random() < 0.2:
        yield f"access.rate_per_s={chance.choice((20000, 100000))}"
        yield f"access.arrivals={chance.choice(('fixed', 'poisson'))}"


def _beside(chance: Random) -> Iterator[str]:
    """Disturbances."""
    if chance.random() < 0.35:
        yield f"disturb.balloon.rate_per_s={chance.choice((500, 5000, 20000))}"
        yield f"disturb.balloon.method={chance.choice(('dontneed', 'remove', 'punch'))}"
        yield f"disturb.balloon.track_removes={_word(chance.random() < 0.7)}"
        yield f"disturb.balloon.stage2={chance.choices(('dropped', 'stale'), (4, 1))[0]}"
    if chance.random() < 0.25:
        yield f"disturb.devices.threads={chance.randint(1, 2)}"
        yield f"disturb.devices.rate_per_s={chance.choice((0, 500, 5000))}"
        yield f"disturb.devices.device_mapping={chance.choice(('same', 'second'))}"
    if chance.random() < 0.2:
        yield f"disturb.mmap_writers.threads={chance.randint(1, 2)}"
        yield f"disturb.mmap_writers.rate_per_s={chance.choice((500, 5000))}"
        yield f"disturb.mmap_writers.map_kib={chance.choice((4, 256, 2048))}"
    if chance.random() < 0.03:
        yield "disturb.migrator.rate_per_s=100"
        yield "disturb.migrator.fragment_mib=8"


def _server(chance: Random, folder: Path) -> Iterator[str]:
    """Readers, source, prefetch."""
    yield "page_server.handshake_timeout_s=60"  # the host may be busy with other tests
    yield f"page_server={chance.choices(('poll', 'epoll', 'spin'), (4, 3, 1))[0]}"
    yield f"page_server.readers_per_uffd={chance.choice((1, 1, 2, 3))}"
    yield f"page_server.events_per_read={chance.choice((1, 2, 16))}"
    if chance.random() < 0.3:
        yield f"page_server.delay_us={chance.choice((5, 50, 300))}"
        yield f"page_server.delay_distribution={chance.choice(('fixed', 'exponential'))}"
    if chance.random() < 0.1:
        yield f"page_server.drop_events_share={chance.choice((0.01, 0.2))}"
        yield "page_server.wake_every_ms=2"
    source = chance.choices(("local", "file", "remote"), (6, 2, 2))[0]
    yield f"source={source}"
    if source == "file":
        yield f"source.cache={chance.choice(('warm', 'cold'))}"
    if source == "remote":
        yield f"source.rtt_us={chance.choice((0, 0, 100))}"
        yield f"source.connections={chance.randint(1, 3)}"
        if chance.random() < 0.5:
            yield "source.push=true"
            yield f"source.batch_pages={chance.choice((1, 16, 64))}"
            yield f"source.push_mib_per_s={chance.choice((0, 20))}"
    prefetch = chance.choices(("none", "order", "working_set"), (5, 3, 2))[0]
    yield f"prefetch={prefetch}"
    if prefetch == "working_set":
        yield f"prefetch.working_set_file={_page_numbers(chance, folder / 'working_set', 100)}"
    if prefetch != "none":
        yield f"prefetch.batch_pages={chance.choice((1, 3, 16, 64))}"
        yield f"prefetch.mib_per_s={chance.choice((0, 5, 40))}"


def _measured(chance: Random) -> Iterator[str]:
    """Rounds, records, verification."""
    yield f"seed={chance.randrange(1 << 30)}"
    yield f"verify={chance.choices(('none', 'word', 'page'), (1, 4, 4))[0]}"
    yield f"measure_s={chance.choice((0, 0, 0.05))}"
    yield f"rounds_limit={chance.choice((2, 5, 20))}"
    yield f"count_mmap_lock={_word(chance.random() < 0.1)}"
    if chance.random() < 0.2:
        yield f"faults_limit={chance.choice((0, 1, 300))}"


def _page_numbers(chance: Random, path: Path, most: int) -> Path:
    """A file of page numbers that every region has."""
    path.write_text(
        "".join(f"{chance.randrange(4 if chance.random() < 0.05 else 256)}\n" for _ in range(chance.randint(1, most)))
    )
    return path


def _divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]


def _word(value: bool) -> str:
    return str(value).lower()
