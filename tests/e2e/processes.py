"""What a driver has started, found as it is: by the processes below it and by the folder they all use."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
from pathlib import Path

from tests.e2e.command import temporary
from tests.wait import wait_for


def below(pid: int) -> list[int]:
    """All descendants of a process."""
    children: dict[int, list[int]] = {}
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = Path(stat).read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.split("/")[2]))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def command_line(pid: int) -> str:
    """A process's arguments; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def actors(driver: int, kind: str) -> list[int]:
    """Pids of a driver's actors of one class, idle or in one of its methods. A title is `ray::Class` or `ray::Class.method`, and
    changes with every call: name a method in `kind` only to wait for it."""
    return sorted(pid for pid in below(driver) if command_line(pid).startswith(f"ray::{kind}"))


def one_of(driver: int, kind: str) -> int:
    """Pid of one of a driver's actors of a class."""
    return wait_for(lambda: actors(driver, kind), f"an actor {kind}", 100)[0]


def using(folder: str) -> list[int]:
    """Pids of the processes whose environment or arguments name a folder."""
    found = []
    for entry in glob.glob("/proc/[0-9]*"):
        try:
            known = Path(f"{entry}/environ").read_bytes() + Path(f"{entry}/cmdline").read_bytes()
        except OSError:
            continue
        if folder.encode() in known:
            found.append(int(entry.rpartition("/")[2]))
    return found


def kill(pid: int) -> bool:
    """As the kernel's OOM killer does it; False when it was gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def folders() -> set[str]:
    """Temporary folders of sessions and of page servers, and what Ray puts into the drivers' home."""
    return {*glob.glob(f"{temporary()}/ulg-*"), *glob.glob(f"{temporary()}/uffd-loadgen-*"), *glob.glob(f"{temporary()}/.ray/*")}


def memfds(folder: str) -> list[str]:
    """Descriptors of a guest's memory in the processes that use a folder."""
    found = []
    for pid in using(folder):
        for entry in glob.glob(f"/proc/{pid}/fd/*"):
            try:
                if "memfd:uffd-loadgen" in os.readlink(entry):
                    found.append(entry)
            except OSError:
                continue
    return found


def end(process: subprocess.Popen[str]) -> None:
    """End a driver that a test has left running."""
    if process.poll() is None:
        process.kill()
    process.wait()
