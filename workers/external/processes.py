"""A handler in /proc: its threads and what they used, the userfaultfds it holds, where it listens."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from workers.protocol.handshake import USERFAULTFD

LISTENS = 0x00010000
"""Flag of /proc/net/unix (__SO_ACCEPTCON)."""
HELD_UP = {"T": "stopped by a signal (SIGSTOP)", "t": "stopped by a debugger", "D": "in an uninterruptible sleep, or frozen"}
"""Process states in which no thread of it runs, as /proc names them."""


@dataclass(frozen=True)
class ThreadUse:
    """What one thread of a handler has used so far."""

    cpu_ns: int
    user_ticks: int
    system_ticks: int
    voluntary: int
    involuntary: int
    minor_faults: int
    major_faults: int


@dataclass(frozen=True)
class Use:
    """What a handler has used so far, its child processes included: `threads` by thread id."""

    threads: dict[int, ThreadUse] = field(default_factory=dict)
    peak_bytes: int = 0


def family(pid: int) -> list[int]:
    """The process and its descendants, as far as they can be seen; empty when it is gone."""
    found = [pid] if Path(f"/proc/{pid}").exists() else []
    for one in found:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                found += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
    return found


def use_of(pid: int) -> Use:
    """What the process and its descendants have used."""
    pids = family(pid)
    threads = {tid: use for one in pids for tid, use in _threads(one)}
    return Use(threads, sum(_status_kib(one, "VmHWM") for one in pids) << 10)


def state_of(pid: int) -> str:
    """What keeps a process from answering, as far as the kernel says."""
    state = state_letter(pid)
    if state in ("", "Z"):
        return "has ended"
    return f"is {HELD_UP[state]}" if state in HELD_UP else "runs"


def state_letter(pid: int) -> str:
    """The process's state; empty when it is gone."""
    with suppress(OSError):
        return _stat(f"/proc/{pid}/stat")[0]
    return ""


def holds_userfaultfd(pid: int) -> bool | None:
    """Whether the process or a descendant has a userfaultfd open; None where that cannot be seen."""
    seen = False
    for one in family(pid):
        with suppress(OSError):
            for number in os.listdir(f"/proc/{one}/fd"):
                with suppress(FileNotFoundError):
                    if os.readlink(f"/proc/{one}/fd/{number}") == USERFAULTFD:
                        return True
            seen = True
    return False if seen else None


def listens_at(path: str) -> bool:
    """Whether a process listens at this path of a Unix socket. Nothing connects: a handler may serve its first peer only."""
    real = os.path.realpath(path)
    with open("/proc/net/unix") as sockets:
        next(sockets)
        for line in sockets:
            fields = line.split(maxsplit=7)
            if len(fields) == 8 and int(fields[3], 16) & LISTENS and _bound_to(fields[7].rstrip("\n"), real):
                return True
    return False


def is_socket(path: str) -> bool:
    """Whether a Unix socket is at this path, its process alive or not."""
    with suppress(OSError):
        return stat.S_ISSOCK(os.stat(path).st_mode)
    return False


def _bound_to(name: str, real: str) -> bool:
    """Whether a socket bound to this name is that at a real path. A relative name is as its process gave it, in a folder that is
    not known."""
    if os.path.isabs(name):
        return os.path.realpath(name) == real
    return os.path.basename(name) == os.path.basename(real) and is_socket(real)


def _threads(pid: int) -> Iterator[tuple[int, ThreadUse]]:
    with suppress(OSError):
        for tid in os.listdir(f"/proc/{pid}/task"):
            folder = f"/proc/{pid}/task/{tid}"
            with suppress(OSError):
                stat = _stat(f"{folder}/stat")
                cpu_ns = int(Path(f"{folder}/schedstat").read_text().split()[0])
                status = _status(f"{folder}/status")
                yield (
                    int(tid),
                    ThreadUse(
                        cpu_ns=cpu_ns,
                        user_ticks=int(stat[11]),
                        system_ticks=int(stat[12]),
                        voluntary=int(status["voluntary_ctxt_switches"]),
                        involuntary=int(status["nonvoluntary_ctxt_switches"]),
                        minor_faults=int(stat[7]),
                        major_faults=int(stat[9]),
                    ),
                )


def _stat(path: str) -> list[str]:
    """The fields of a stat file from the third, the state, on."""
    return Path(path).read_text().rpartition(")")[2].split()


def _status(path: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(path).read_text().splitlines() if ":\t" in line)


def _status_kib(pid: int, key: str) -> int:
    with suppress(OSError):
        return int(_status(f"/proc/{pid}/status").get(key, "0").split()[0])
    return 0
