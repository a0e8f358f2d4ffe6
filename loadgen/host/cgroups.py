"""The control groups this process is in, of version 1 and 2, nested: what they leave it of memory, tasks and CPU time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

UNLIMITED = 1 << 60
"""Version 1 writes a huge number where there is no limit."""


@dataclass(frozen=True)
class Room:
    """What the tightest of the groups leaves: `left` of its `limit`, which the file `path` sets."""

    left: int
    limit: int
    path: str


@dataclass(frozen=True)
class Quota:
    """CPUs that a group's threads may use together, set by the file `path`."""

    cpus: float
    path: str


@dataclass(frozen=True)
class Pressure:
    """What limits have done to the processes here so far: seconds for which a CPU quota kept threads from running, how often the
    kernel has killed a process of their group, and of the whole host, for lack of memory (None: not counted), and how often
    groups have reached their limits of memory, by file, the innermost first."""

    throttled_s: float = 0.0
    oom_kills: int | None = None
    host_oom_kills: int | None = None
    limits_reached: Mapping[str, int] = field(default_factory=dict)


class Cgroups:
    """Groups of the process `pid` (`self`) as `/proc` below `root` shows them, and as they are mounted there."""

    def __init__(self, root: Path = Path("/"), pid: str = "self") -> None:
        self._root = root
        mounts = _mounts(_text(root / "proc" / pid / "mountinfo"))
        self._folders: dict[str, list[Path]] = {}
        for line in _text(root / "proc" / pid / "cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(",") if controllers else ("",):
                if controller in mounts:
                    self._folders[controller] = [root / str(one).lstrip("/") for one in _levels(*mounts[controller], path)]

    def memory(self) -> Room | None:
        """Bytes; page cache that the kernel can drop counts as left. None without a limit."""
        rooms = []
        for folder, v2 in self._of("memory"):
            limit_file, used_file, cache = (
                ("memory.max", "memory.current", "inactive_file")
                if v2
                else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            )
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is not None and used is not None:
                rooms.append(
                    Room(max(0, limit - used + _stat(folder / "memory.stat").get(cache, 0)), limit, str(folder / limit_file))
                )
        return min(rooms, key=lambda room: room.left, default=None)

    def tasks(self) -> Room | None:
        """Processes and threads. None without a limit."""
        rooms = []
        for folder, _ in self._of("pids"):
            limit, used = _number(folder / "pids.max"), _number(folder / "pids.current")
            if limit is not None and used is not None:
                rooms.append(Room(max(0, limit - used), limit, str(folder / "pids.max")))
        return min(rooms, key=lambda room: room.left, default=None)

    def cpu_quota(self) -> Quota | None:
        """The smallest quota. None without one."""
        quotas = []
        for folder, v2 in self._of("cpu"):
            path = folder / ("cpu.max" if v2 else "cpu.cfs_quota_us")
            quota, period = [*_text(path).split(), "", ""][:2] if v2 else (_text(path), _text(folder / "cpu.cfs_period_us"))
            with suppress(ValueError, ZeroDivisionError):  # "max", or no such file
                if int(quota) > 0:
                    quotas.append(Quota(int(quota) / int(period), str(path)))
        return min(quotas, key=lambda quota: quota.cpus, default=None)

    def throttled_s(self) -> float:
        """Seconds for which the groups' CPU quotas have kept threads from running so far, of the group it was longest in."""
        found = [0.0]
        for folder, v2 in self._of("cpu"):
            stat = _stat(folder / "cpu.stat")
            found.append(stat.get("throttled_usec", 0) / 1e6 if v2 else stat.get("throttled_time", 0) / 1e9)
        return max(found)

    def oom_kills(self) -> int | None:
        """How often the kernel has killed a process of the group for lack of memory so far, for a limit's sake or the
        host's. The group is the innermost one with a count: kills in the groups beside it are none of its own."""
        for folder, v2 in self._of("memory"):
            counts = _stat(folder / ("memory.events" if v2 else "memory.oom_control"))
            if "oom_kill" in counts:
                return counts["oom_kill"]
        return None

    def limits_reached(self) -> dict[str, int]:
        """How often each group has reached its limit of memory so far, by the file that sets it, the innermost first."""
        reached = {}
        for folder, v2 in self._of("memory"):
            times = _stat(folder / "memory.events").get("oom") if v2 else _number(folder / "memory.failcnt")
            if times is not None:
                reached[str(folder / ("memory.max" if v2 else "memory.limit_in_bytes"))] = times
        return reached

    def _of(self, controller: str) -> Iterator[tuple[Path, bool]]:
        """Folders of the groups, from the process's own up, and whether they are of version 2."""
        v2 = controller not in self._folders
        for folder in self._folders.get("" if v2 else controller, ()):
            yield folder, v2


def pressure() -> Pressure:
    """On this process's groups, and on the host as a whole, now."""
    groups = Cgroups()
    return Pressure(
        groups.throttled_s(), groups.oom_kills(), _stat(Path("/proc/vmstat")).get("oom_kill"), groups.limits_reached()
    )


def _mounts(mountinfo: str) -> dict[str, tuple[Path, Path]]:
    """(root within the hierarchy, mount point) by controller; that of version 2 is the empty name."""
    found: dict[str, tuple[Path, Path]] = {}
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        where = (Path(fields.split()[3]), Path(fields.split()[4]))
        if kind == "cgroup2":
            found[""] = where
        elif kind == "cgroup":
            found |= dict.fromkeys(options.rpartition(" ")[2].split(","), where)
    return found


def _levels(root: Path, mount: Path, group: str) -> list[Path]:
    """The group's folder and those above it, as far as they are mounted."""
    path = Path(group)
    inside = path.relative_to(root) if path.is_relative_to(root) else Path()
    return [mount / inside, *(mount / above for above in inside.parents)] if inside != Path() else [mount]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def _stat(path: Path) -> dict[str, int]:
    lines = (line.split() for line in _text(path).splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}
