"""What the actors report to the driver: frozen and picklable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class GuestAddress:
    """How a VMM process reaches its guest: the page server's process, its memfds (`region_fd` -1 for anonymous memory), the
    socket that takes userfaultfds, and the snapshot file, if there is one."""

    pid: int
    region_fd: int
    shared_fd: int
    socket_path: str
    snapshot: str = ""


@dataclass(frozen=True)
class ProcessUsage:
    """What a process has used so far: CPU time in seconds, bytes read from storage, major page faults."""

    cpu_s: float
    read_bytes: int
    major_faults: int


@dataclass(frozen=True)
class ServerReport:
    """The page server's side of a run: counters summed over its threads, each thread's own with what it used, the peers it
    refused, what a remote source sent it (empty when there is none), how far the prefetcher had got by when, what ended the
    rounds, and the first line that an external handler printed. Under such a handler there are no counters."""

    counters: dict[str, int]
    threads: list[dict[str, Any]]
    refused: list[str]
    source: dict[str, Any] = field(default_factory=dict)
    prefetch: dict[str, Any] = field(default_factory=dict)
    rounds_ended: str = ""
    handler_version: str = ""


@dataclass(frozen=True)
class VmmReport:
    """One VMM process's side of a run: counters summed over its vCPUs and disturbances, one mapping a vCPU, how many pages
    ended in each state of its page record, one mapping a thread of a disturbance, the pages that could not be brought into
    their state between rounds, what its own thread used, which prepares them (`tid` and the columns of `threads`), what it saw
    of an external handler (empty without one), and the mapped pages on NUMA node 0, 1, ... at the end."""

    counters: dict[str, int]
    vcpus: list[dict[str, Any]]
    page_states: dict[str, int] = field(default_factory=dict)
    disturbers: list[dict[str, Any]] = field(default_factory=list)
    unprepared: int = 0
    thread: dict[str, Any] = field(default_factory=dict)
    handler: dict[str, Any] = field(default_factory=dict)
    page_nodes: list[int] = field(default_factory=list)
