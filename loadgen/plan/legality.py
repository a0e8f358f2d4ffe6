"""Which strategy goes with which memory, fault mix and privilege: as data, so that it can be printed and checked alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loadgen.host.probe import Host
from loadgen.host.userfaultfd_advice import userfaultfd_advice

MEMORY_FEATURES = {
    "shmem": frozenset({"MISSING_SHMEM", "MINOR_SHMEM"}),
    "hugetlb": frozenset({"MISSING_HUGETLBFS", "MINOR_HUGETLBFS"}),
    "anon": frozenset[str](),
}


@dataclass(frozen=True)
class Verdict:
    """`allowed`, or the reason it is not, with what to do."""

    allowed: bool
    reason: str = ""


def needed_features(strategy: dict[str, Any], memory_type: str) -> frozenset[str]:
    """userfaultfd features (names as in the kernel's header, without the prefix) a strategy needs on a memory type."""
    if not strategy["userfaultfd"]:
        return frozenset()
    return MEMORY_FEATURES[memory_type] | frozenset(strategy["features"])


def memory_type_of(strategy: dict[str, Any], asked: str) -> str:
    """The memory a run of `strategy` has: `asked`, or `file` where the strategy maps the snapshot by itself."""
    return "file" if strategy["restore"] == "file_map" else asked


def judge(strategy: dict[str, Any], memory_type: str, kind: str, host: Host) -> Verdict:
    """May `strategy` (an entry of the native registry) run pages of `kind` on `memory_type` on this host?"""
    name = strategy["name"]
    if memory_type not in strategy["memory_types"]:
        return Verdict(False, f"strategy {name} does not run on {memory_type} memory; use memory={strategy['memory_types'][0]}")
    if kind == "minor" and memory_type == "anon":
        return Verdict(
            False,
            "anonymous memory has no page cache, so no page of it can be minor; use fault_mix=absent, or memory=shmem",
        )
    if memory_type == "file" and kind == "minor":
        return Verdict(
            False,
            f"under strategy {name} pages come out of the snapshot, so none is minor; use fault_mix=absent, with "
            "source.cache=warm or source.cache=cold",
        )
    if kind == "swapped" and strategy["restore"] != "on_demand":
        return Verdict(False, f"strategy {name} restores a guest, whose pages cannot be swapped out yet; use fault_mix=absent")
    if kind == "absent" and not strategy["userfaultfd"] and strategy["restore"] == "on_demand":
        return Verdict(False, f"under strategy {name} no reader fetches an absent page; use fault_mix=minor or fault_mix=hit")
    if kind == "poisoned" and not strategy["userfaultfd"]:
        return Verdict(False, f"strategy {name} has no userfaultfd to poison pages with; use fault_mix=minor or fault_mix=hit")
    if kind == "swapped" and memory_type == "hugetlb":
        return Verdict(False, "huge pages are never swapped out; use memory=shmem or memory=anon")
    if kind == "swapped" and memory_type == "anon" and not strategy["userfaultfd"]:
        return Verdict(False, f"under strategy {name} anonymous memory has no contents to swap out; use memory=shmem")
    if kind == "poisoned" and "POISON" not in host.userfaultfd_features and host.userfaultfd_way:
        return Verdict(False, f"kernel {host.kernel} cannot poison pages (UFFDIO_POISON is Linux 6.6); use another fault_mix")
    if strategy["userfaultfd"]:
        if not host.userfaultfd_way:
            tried = "; ".join(f"{way}: {error}" for way, error in host.userfaultfd_errors)
            return Verdict(False, f"this process may not use userfaultfd ({tried}): {userfaultfd_advice(host)}")
        if strategy["kernel_faults"] and host.userfaultfd_way == "user_mode_only":
            return Verdict(
                False,
                f"strategy {name} waits for faults inside MADV_POPULATE_WRITE, and this process may use userfaultfd for "
                "user-mode faults only: run as root, or give this user access to /dev/userfaultfd; or use another strategy",
            )
        missing = needed_features(strategy, memory_type) - host.userfaultfd_features
        if missing:
            return Verdict(
                False,
                f"kernel {host.kernel} lacks the userfaultfd feature {', '.join(sorted(missing))} that strategy {name} on "
                f"{memory_type} memory needs; use another strategy or memory, or a newer kernel",
            )
    return Verdict(True)


LARGEST_KVM_GUEST_BYTES = 248 << 30
"""A region that fits, with the records beside it, the 256 GiB of guest addresses an engine=kvm guest maps."""


def refuse_engine(engine: dict[str, Any], exit_kind: str, vcpus_per_vmm: int, region_bytes: int, host: Host) -> Iterator[str]:
    """Why `engine` (an entry of the native registry) cannot run vCPUs that exit by `exit_kind` here."""
    if engine["emulates_exits"]:
        return
    name = engine["name"]
    if not host.kvm:
        yield f"engine={name} needs /dev/kvm, which this process may not use: `modprobe kvm`, and membership of the group kvm"
        return
    if exit_kind == "probe" and host.kvm_exit_on_missing:
        yield f"engine={name}: {host.kvm_exit_on_missing}"
    if exit_kind == "populate":
        yield (
            f"engine={name}: a guest's refused access comes back by itself, not as the error of MADV_POPULATE_WRITE: "
            "use strategy.exit_via=signal, or engine=thread"
        )
    if host.kvm_most_vcpus and vcpus_per_vmm > host.kvm_most_vcpus:
        yield (
            f"vcpus_per_vmm={vcpus_per_vmm}, but this kernel gives a KVM guest at most {host.kvm_most_vcpus} vCPUs: "
            "use a smaller vcpus_per_vmm"
        )
    if region_bytes > LARGEST_KVM_GUEST_BYTES:
        yield (
            f"memory.region_mib={region_bytes >> 20} is more than a guest of engine={name} maps: "
            f"use at most {LARGEST_KVM_GUEST_BYTES >> 20}"
        )
