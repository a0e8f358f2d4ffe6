"""The machines, as data: architecture, kernel, CPU, memory, nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """What differs between the two: names in Debian, in QEMU, in wheels and in the compiler, and the kernel's command line. An
    emulator that gets little of a CPU fails the kernel's test of the timer, which has an allowance of its own."""

    name: str
    debian: str
    qemu: str
    qemu_package: str
    line: str
    wheel: str
    cross: tuple[str, ...] = ()


X86_64 = Architecture("x86_64", "amd64", "qemu-system-x86_64", "qemu-system-x86", "console=ttyS0 no_timer_check", "x86_64")
ARM64 = Architecture(
    *("arm64", "arm64", "qemu-system-aarch64", "qemu-system-arm", "console=ttyAMA0", "aarch64"),
    (
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
    ),
)  # fmt: skip

BOOKWORM, NEWEST = ("bookworm", "bookworm-security"), ("sid", "experimental")

# What the emulator has no translation for is left out of the CPU; SVM with nested paging makes KVM inside the one of hardware.
EPYC = (
    "EPYC,+svm,+npt,x-force-features=on,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,-topoext,-nrip-save,-xsavec"
)
PC = ("-accel", "tcg,thread=single", "-cpu", f"{EPYC},+invtsc")

ARM_BOARD = ("-accel", "tcg,thread=multi", "-M", "virt,virtualization=on,gic-version=3", "-cpu", "max,pauth-impdef=on")


@dataclass(frozen=True)
class Machine:
    """`kernel`: a pattern of its package's name, of which the highest version is taken; `modules`: a package beside it, with
    what the pattern's group matched. `tests`: only the native tests whose name holds these words; `product`: Python's too."""

    name: str
    architecture: Architecture
    kernel: str
    suites: tuple[str, ...]
    hardware: tuple[str, ...]
    summary: str
    cpus: int = 2
    memory_mib: int = 2048
    nodes: int = 1
    modules: str = ""
    tests: str = ""
    product: bool = True
    limit_s: int = 2400

    @property
    def threads(self) -> int:
        """CPUs that its emulator keeps busy."""
        return self.cpus if "tcg,thread=multi" in self.hardware else 1

    def command(self, kernel: str, initramfs: str, disks: Sequence[str]) -> list[str]:
        """QEMU's, with the console on its standard output."""
        # A line of the kernel's for each poisoned page costs seconds. An emulator that gets little of a CPU fails the watchdog of
        # the counter too, and the kernel would give the counter up.
        line = f"{self.architecture.line} loglevel=3 panic=-1{' tsc=reliable' if '+invtsc' in ' '.join(self.hardware) else ''}"
        return [
            *(self.architecture.qemu, *self.hardware, *self._nodes()),
            *("-smp", str(self.cpus), "-m", str(self.memory_mib)),
            *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-nic", "none", "-no-reboot"),
            *(word for disk in disks for word in ("-drive", f"file={disk},format=raw,if=virtio,snapshot=on")),
            *("-kernel", kernel, "-initrd", initramfs, "-append", line),
        ]

    def _nodes(self) -> list[str]:
        """Memory and CPUs dealt out evenly; the distance between two nodes is 20."""
        if self.nodes == 1:
            return []
        each, cpus = self.memory_mib // self.nodes, self.cpus // self.nodes
        words = []
        for node in range(self.nodes):
            words += ["-object", f"memory-backend-ram,id=m{node},size={each}M"]
            words += ["-numa", f"node,nodeid={node},memdev=m{node},cpus={node * cpus}-{(node + 1) * cpus - 1}"]
        return words


_6_12 = r"linux-image-6\.12\.\d+\+deb12-cloud-{}-unsigned"

MACHINES = (
    Machine(
        *("numa", X86_64, _6_12.format("amd64"), BOOKWORM, PC, "hardware-style KVM, 2 NUMA nodes, Linux 6.12"),
        nodes=2,
    ),
    Machine("oldest", X86_64, r"linux-image-6\.1\.0-\d+-cloud-amd64-unsigned", BOOKWORM, PC, "hardware-style KVM, Linux 6.1"),
    Machine(
        *("no-counter", X86_64, _6_12.format("amd64"), BOOKWORM),
        *((*PC[:3], f"{EPYC},-invtsc"), "hardware-style KVM, no invariant counter, Linux 6.12"),
    ),
    Machine(
        *("newest", X86_64, r"linux-binary-unsigned-(\d+\.\d\S*-cloud-amd64)", NEWEST, PC),
        "hardware-style KVM, the newest kernel of Debian",
        modules="linux-modules-{}",
    ),
    Machine(
        *("many-cpus", X86_64, _6_12.format("amd64"), BOOKWORM, PC, "96 CPUs, Linux 6.12: masks of CPUs"),
        cpus=96,
        tests="mask of CPUs",
        product=False,
    ),
    Machine(
        *("arm64", ARM64, _6_12.format("arm64"), BOOKWORM),
        *(ARM_BOARD, "arm64 with KVM, Linux 6.12"),
    ),
    Machine(
        *("arm64-16k", ARM64, r"linux-binary-unsigned-(\d+\.\d\S*-arm64-16k)", NEWEST, ARM_BOARD),
        "arm64 with base pages of 16 KiB: refused by name",
        modules="linux-modules-{}",
        tests="base pages",
        product=False,
    ),
)  # fmt: skip
