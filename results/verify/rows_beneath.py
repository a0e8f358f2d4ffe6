"""What the rows of vCPUs and threads of a run must be: each there once, in its place, with the times and counts of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.derive.trust import PLACED_ROLES
from results.schema import ROUNDS_FROM

Row = Mapping[str, Any]

_EACH_ROUND = ("round_start_ns", "round_pages", "round_cpu_ns")
"""Lists of a vCPU with an item for each round that it began."""


def malformed(vcpus: Sequence[Row]) -> Iterator[str]:
    """A sentence for each vCPU whose lists are not of its rounds: nothing can be computed from them."""
    for vcpu in vcpus:
        lists = [vcpu.get(name) for name in (*_EACH_ROUND, "round_end_ns")]
        if all(one is None for one in lists):
            continue  # of before there were rounds
        lengths = [-1 if one is None else len(one) for one in lists]
        if len(set(lengths[:-1])) != 1 or not 0 <= lengths[0] - lengths[-1] <= 1:
            yield f"vCPU {vcpu['vcpu']}: its lists of rounds are {', '.join(map(str, lengths))} long"


def misplaced(run: Row, vcpus: Sequence[Row], threads: Sequence[Row]) -> Iterator[str]:
    """A sentence for each row that is missing, there twice, or not in its place, and for what contradicts the run's own row."""
    if run["schema_version"] < ROUNDS_FROM or run.get("run_kind") == "serve":
        return
    yield from _numbered(run, vcpus, threads)
    for vcpu in vcpus:
        for what in _of_vcpu(run, vcpu):
            yield f"vCPU {vcpu['vcpu']}: {what}"
    wrong = sum(vcpu.get("wrong_words") or 0 for vcpu in vcpus)
    if wrong > (run.get("wrong_words") or 0):
        yield f"wrong_words={run.get('wrong_words')}, and its vCPUs read {wrong}"
    rounds = min((len(vcpu["round_end_ns"] or ()) for vcpu in vcpus), default=0)
    if run.get("rounds") is not None and run["rounds"] != rounds:
        yield f"rounds={run['rounds']}, and every vCPU finished {rounds}"
    switches = [row["involuntary_switches"] for row in threads if row["role"] in PLACED_ROLES]
    stored = run.get("involuntary_switches")
    several = "," in (run.get("guest_hosts") or "")
    if stored is not None and None not in switches and not several and stored != sum(switches):
        yield f"involuntary_switches={stored}, and its vCPUs and readers sum to {sum(switches)}"


def _numbered(run: Row, vcpus: Sequence[Row], threads: Sequence[Row]) -> Iterator[str]:
    ok, each = run["status"] == "ok", run.get("vcpus")
    numbers = [vcpu["vcpu"] for vcpu in vcpus]
    if len(set(numbers)) < len(numbers):
        yield "a vCPU has two rows in vcpus"
    elif ok and each and numbers and sorted(numbers) != list(range(each * (run.get("guests") or 1))):
        yield f"vcpus={each}, and vcpus has rows of {', '.join(map(str, sorted(numbers)))}"
    twice = [
        key
        for key, count in Counter((row["role"], row["guest"], row["number"], row["tid"]) for row in threads).items()
        if count > 1
    ]
    yield from (f"{role} {number} of guest {guest} has two rows in threads" for role, guest, number, _ in twice)
    of_threads = sorted(row["number"] for row in threads if row["role"] == "vcpu")
    if threads and of_threads != sorted(numbers):
        yield f"threads has rows of {len(of_threads)} vCPUs, and vcpus of {len(numbers)}"
    readers, guests = run.get("readers"), {vcpu["guest"] for vcpu in vcpus}
    own = run.get("page_server") == "own" and not run.get("recoveries")
    there = sum(row["role"] == "reader" for row in threads)
    if ok and threads and own and readers is not None and there not in (0, readers * len(guests)):
        yield f"readers={readers}, and threads has rows of {there}"


def _of_vcpu(run: Row, vcpu: Row) -> Iterator[str]:
    if run["status"] == "ok":
        yield from (f"status=ok, and {name}={vcpu[name]!r}" for name in ("stuck", "failure") if vcpu.get(name))
    starts, ends = vcpu.get("round_start_ns"), vcpu.get("round_end_ns")
    if starts and vcpu["start_ns"] != starts[0]:
        yield f"start_ns={vcpu['start_ns']}, and its first round began at {starts[0]}"
    if ends and len(ends) == len(starts or ()) and vcpu["end_ns"] != ends[-1]:
        yield f"end_ns={vcpu['end_ns']}, and its last round ended at {ends[-1]}"
    each, of_vmm = run.get("vcpus"), run.get("vcpus_per_vmm")
    if each and vcpu.get("guest") is not None and vcpu["guest"] != vcpu["vcpu"] // each:
        yield f"guest={vcpu['guest']}, and each guest has {each} vCPUs"
    if of_vmm and vcpu.get("vmm") is not None and vcpu["vmm"] != vcpu["vcpu"] // of_vmm:
        yield f"vmm={vcpu['vmm']}, and each VMM process has {of_vmm} vCPUs"
    hosts = (run.get("guest_hosts") or "").split(",")
    if vcpu.get("host") and vcpu.get("guest") is not None and vcpu["guest"] < len(hosts) and vcpu["host"] != hosts[vcpu["guest"]]:
        yield f"host={vcpu['host']}, and its guest is on {hosts[vcpu['guest']]}"
