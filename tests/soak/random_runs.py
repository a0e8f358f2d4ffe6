"""Runs of random configurations, made one after the other by the driver on local actors: each is checked for its row, its
identities, its contents, and what it left.

Usage: `python -m tests.soak.random_runs SEED FIRST COUNT` makes the runs FIRST, FIRST + 1, ... of the soak of SEED.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from loadgen.config.hydra_schema import register
from loadgen.config.schema import KEYS
from loadgen.config.validate import validate_cells
from loadgen.errors import ConfigError
from loadgen.plan.plan import PlannedRun
from loadgen.run.run import run_guests
from loadgen.sweep.plan_runs import check
from loadgen.sweep.sweeper import register_sweeper
from results.store.dataset import DataSet
from results.verify.verification import verify
from tests.e2e import processes
from tests.e2e.in_session import configured
from tests.local_actors import LocalActor, LocalRay, LocalSession
from tests.soak.random_configuration import Drawn, Harm, draw

MOST_TRIES = 200
REMEDY = re.compile(r"\b(use|set|run as|make|change|give|add|leave|modprobe|sysctl|write)\b")
ERRNO = re.compile(r"[Ee]rrno|Traceback|object at 0x|Operation not|Invalid argument|Bad address")
OURS = ("memfd:uffd-loadgen", "userfaultfd", "kvm-v")
"""In names of descriptors: a guest's memory, and what is registered with it."""
THREADS = re.compile(r"(vcpu|reader|ring|prefetch|balloon|device|migrator|mmap_writer) \d+")
STAYS = re.compile(r"snapshot-\d+-\d+-\d+")
"""A snapshot that was written for the session is kept for its next run."""
PAUSE_S = 0.2


def make_and_check(folder: Path, seed: int, numbers: Iterable[int]) -> None:
    """Make the runs; fails with everything that was wrong of them, or is left of them."""
    register()
    register_sweeper()
    with tempfile.TemporaryDirectory(prefix="ulr-") as temporary, LocalRay():
        session = LocalSession(temporary)
        try:
            runs = RandomRuns(session, folder, Path(temporary), seed)
            for number in numbers:
                print(runs.make(number), flush=True)
        finally:
            session.close()
    print(f"seed {seed}: {dict(runs.done)}; {sum(runs.refused.values())} refused, of {len(runs.refused)} kinds")
    wrong = [*runs.failures, *runs.disagreements()]
    assert not wrong, f"{len(wrong)} of seed {seed}:\n" + "\n".join(wrong)
    left = [command for command in map(processes.command_line, processes.below(os.getpid())) if "loadgen.host.keeper" in command]
    assert not left, "what was changed of the host is not undone"


def planned(session: LocalSession, seed: int, number: int, folder: Path, refused: Counter[str]) -> tuple[Drawn, PlannedRun]:
    """The first legal configuration drawn for `number`. Each refusal of another one must name a key and a remedy."""
    for try_ in range(MOST_TRIES):
        drawn = draw(seed, number, folder, try_)
        try:
            cfg = configured(*drawn.overrides)
            run = check(cfg, session, number)
            validate_cells([cfg])
        except ConfigError as error:
            for problem in error.problems:
                assert _is_clear(problem), f"run {number}: {problem!r} of {' '.join(drawn.overrides)}"
                refused[re.sub(r"[\d.]+", "N", problem)] += 1
            continue
        return drawn, run
    raise AssertionError(f"run {number}: no legal configuration in {MOST_TRIES} tries")


def _is_clear(problem: str) -> bool:
    named = any(key.name in problem or key.name.partition(".")[0] + "=" in problem for key in KEYS) or "strategy" in problem
    return named and bool(REMEDY.search(problem)) and not ERRNO.search(problem)


class RandomRuns:
    """`make` makes runs; `failures`: what was wrong of each that failed, with its configuration."""

    def __init__(self, session: LocalSession, folder: Path, temporary: Path, seed: int) -> None:
        self._session, self._folder, self._temporary, self._seed = session, folder, temporary, seed
        self.dataset = DataSet.open(str(folder / "dataset"))
        self.failures: list[str] = []
        self._overrides: dict[str, str] = {}
        self.refused: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    def make(self, number: int) -> str:
        """Draw run `number`, make it, and look at what it came to. What is to be said of it."""
        drawn, run = planned(self._session, self._seed, number, self._folder, self.refused)
        overrides = self._overrides[run.spec.run_id] = " ".join(drawn.overrides)
        with _doing(drawn.harm, self._session) as done:
            row = run_guests(self._session, run, self.dataset, lambda _: None).row  # type: ignore[arg-type]
        harm = drawn.harm if done else None
        wrong = [*_of_row(row, harm), *(self._left() if row["status"] == "ok" else ())]  # else the actors were ended
        if harm is not None and harm.what != "pause" and row["status"] == "ok":
            self._session.renew()  # it may have come after the run: to a process that the next one would have used
        self.done[f"{harm.what} {harm.whose}" if harm is not None else row["strategy"]] += 1
        if wrong:
            self.failures.append(f"run {number}: {'; '.join(wrong)}\n  loadgen {overrides} {harm or ''}")
        return f"run {number}: {row['status']}, {row['wall_s']:.2f} s, {harm or ''} {row['reason'] or ''} {'; '.join(wrong)}"

    def disagreements(self) -> Iterator[str]:
        """What of all that was stored disagrees with itself."""
        for one in verify(self.dataset):
            yield f"{one.run_id}: {one.what}\n  loadgen {self._overrides.get(one.run_id, '')}"

    def _left(self) -> Iterator[str]:
        """What is left of a run in the actors that stay, and in their folder."""
        for actor in self._session.actors:
            held = [name for name in _descriptors(actor) if any(one in name for one in OURS)]
            if held and actor.name != "the source":
                yield f"{actor.name} still has {', '.join(sorted(set(held)))}"
            if threads := [name for name in _threads(actor) if THREADS.fullmatch(name)]:
                yield f"{actor.name} still has threads {', '.join(threads)}"
        yield from (f"{path.name} is left" for path in self._temporary.iterdir() if not STAYS.fullmatch(path.name))


def _of_row(row: dict[str, Any], harm: Harm | None) -> Iterator[str]:
    """What a run's row has that it should not have."""
    if _unpoisons(row):
        return
    if row["status"] not in _endings(row, harm):
        yield f"status={row['status']}: {row['reason']}"
    elif row["status"] != "ok" and not re.search(r"the page server|VMM process", row["reason"]):
        yield f"the reason names no process: {row['reason']}"
    if row.get("wrong_words"):
        yield f"wrong_words={row['wrong_words']}"
    if row["status"] == "ok" and row["ended_in_flight"]:
        yield f"ended_in_flight={row['ended_in_flight']}"


def _unpoisons(row: dict[str, Any]) -> bool:
    """Whether the run may be corrupt: going by EEXIST alone un-poisons pages, a hazard that is there to be shown."""
    hazard = '"page_record": "eexist_only"' in row["config_json"] and '"poisoned_at": "resolved"' in row["config_json"]
    return hazard and bool(row.get("wrong_words") or row["status"] == "corrupt")


def _endings(row: dict[str, Any], harm: Harm | None) -> tuple[str, ...]:
    """Statuses that a run may have after this was done; it may have come when the run was just over."""
    if harm is None or harm.what == "pause":
        return ("ok",)
    if harm.what == "freeze":
        return ("ok", "stuck")
    recovered = harm.whose == "the page server" and '"recover": true' in row["config_json"]
    return ("ok",) if recovered else ("ok", "crashed")


def _descriptors(actor: LocalActor) -> Iterator[str]:
    for entry in Path(f"/proc/{actor.pid()}/fd").glob("*"):
        with suppress(OSError):
            yield os.readlink(entry)


def _threads(actor: LocalActor) -> Iterator[str]:
    for entry in Path(f"/proc/{actor.pid()}/task").glob("*/comm"):
        with suppress(OSError):
            yield entry.read_text().strip()


@contextmanager
def _doing(harm: Harm | None, session: LocalSession) -> Iterator[list[bool]]:
    """Do this to a process of the run that is made meanwhile; the list has an entry if it was done."""
    done: list[bool] = []
    over = threading.Event()
    if harm is None:
        yield done
        return
    thread = threading.Thread(target=_do, args=(harm, session, over.wait, done))
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def _do(harm: Harm, session: LocalSession, over: Callable[[float], bool], done: list[bool]) -> None:
    """As soon as a VMM process runs and `after_s` more have passed; nothing when the run is over before."""
    while not (running := [actor for vmms in list(session.vmms) for actor in list(vmms) if actor.is_in("run")]):
        if over(0.005):
            return
    if over(harm.after_s):
        return
    target = session.servers[0] if harm.whose == "the page server" else running[0]
    pid = target.pid()
    if pid is None or (not target.is_in("run") and target is running[0]):
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL if harm.what == "kill" else signal.SIGSTOP)
        done.append(True)
        if harm.what == "pause":
            time.sleep(PAUSE_S)
            os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    asked, first, count = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="ulr-") as of_the_results:
        make_and_check(Path(of_the_results), asked, range(first, first + count))
