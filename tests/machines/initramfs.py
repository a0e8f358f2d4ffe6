"""What a machine boots into: busybox, the native tests, kernel modules and an init of a few lines, as a cpio archive."""

from __future__ import annotations

import lzma
import re
import stat
from collections.abc import Iterator
from pathlib import Path

Entry = tuple[str, int, bytes]
"""Path, mode, contents."""

FOLDERS = ("bin", "dev", "proc", "sys", "tmp", "root", "modules", "mnt")
STARTED, ENDED = "MACHINE-STARTED", "MACHINE-ENDED"

INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/shm
mount -t tmpfs tmp /dev/shm
mount -t tmpfs tmp /tmp
mount -t tracefs trace /sys/kernel/tracing
ip link set lo up
for module in $(cat /modules/order); do insmod /modules/$module || echo "module $module was not loaded"; done
echo $((131072 / $(awk '/^Hugepagesize/ {{print $2}}' /proc/meminfo))) > /proc/sys/vm/nr_hugepages
[ -b /dev/zram0 ] && echo 256M > /sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0
ulimit -c 0
cd /tmp
echo {STARTED} $(uname -r)
. /work
echo {ENDED} $?
poweroff -f
"""


def initramfs(work: str, files: dict[str, Path], modules: list[tuple[str, bytes]]) -> bytes:
    """`work`: the shell lines whose last status is the machine's. `files`: where each of them goes. `modules` in their order."""
    entries: list[Entry] = [(folder, stat.S_IFDIR | 0o755, b"") for folder in FOLDERS]
    entries.append(("init", stat.S_IFREG | 0o755, INIT.encode()))
    entries.append(("work", stat.S_IFREG | 0o644, work.encode()))
    entries.append(("modules/order", stat.S_IFREG | 0o644, "\n".join(name for name, _ in modules).encode()))
    entries += [(f"modules/{name}", stat.S_IFREG | 0o644, body) for name, body in modules]
    entries += [(name, stat.S_IFREG | 0o755, path.read_bytes()) for name, path in files.items()]
    return cpio(entries)


def cpio(entries: list[Entry]) -> bytes:
    """The entries in the kernel's own format ("newc")."""
    out = bytearray()
    for number, (name, mode, body) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4)
        out += body
        out += bytes(-len(out) % 4)
    return bytes(out)


def modules_of(kernel: Path, wanted: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """Those of the unpacked kernel with what they depend on, in the order of loading; one that is built in has no file."""
    there = {path.name.partition(".")[0].replace("-", "_"): path for path in kernel.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        path = there.get(name.replace("-", "_"))
        if path is None or path.name in found:
            return
        body = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        for other in _depends(body):
            add(other)
        found[path.name] = body

    for name in wanted:
        add(name)
    return [(name.removesuffix(".xz"), body) for name, body in found.items()]


def _depends(module: bytes) -> Iterator[str]:
    # Beside what it links to: what it asks for by name when it is in use.
    for names in re.findall(rb"\0(?:depends=|softdep=pre: )([^\0]*)", module):
        yield from filter(None, re.split(r"[ ,]", names.decode()))
