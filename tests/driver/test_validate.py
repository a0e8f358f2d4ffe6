"""Every refusal a user can meet before anything starts, by its text: what is wrong, which key, what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from loadgen.config.validate import validate, validate_cells
from loadgen.errors import ConfigError
from loadgen.host.probe import Host
from workers import _native

Configure = Callable[..., DictConfig]


ABSENT = ("fault_mix=absent",)
FOREIGN = ("source=file", "source.file=guest.mem", "source.contents=file")


def refusal(cfg: DictConfig, host: Host) -> str:
    with pytest.raises(ConfigError) as error:
        validate(cfg, host)
        validate_cells([cfg])
    return str(error.value)


@pytest.mark.parametrize(
    ("overrides", "texts"),
    [
        (["memory=anon"], ["no page of it can be minor; use fault_mix=absent, or memory=shmem"]),
        (["memory=anon", "fault_mix=absent", "vcpus=2"], ["set vcpus_per_vmm=2, or use memory=shmem"]),
        (["strategy=null", "fault_mix=absent"], ["no reader fetches an absent page; use fault_mix=minor"]),
        (["strategy=null", "memory=anon", "fault_mix=hit"], ["strategy null does not run on anon memory; use memory=shmem"]),
        (["memory=hugetlb", "memory.region_mib=3"], ["not a multiple of the page size 2097152", "a multiple of 2 MiB"]),
        (["memory=hugetlb"], ["needs 32 free huge pages of 2 MiB and there are 0", "sysctl vm.nr_hugepages=32"]),
        (["memory.page_bytes=8192"], ["memory.page_bytes=8192 does not go with shmem memory: use 4096"]),
        (["memory.region_mib=8000"], ["4096 MiB are free", "use a smaller memory.region_mib"]),
        (["vcpus=3", "vcpus_per_vmm=2"], ["vcpus=3 cannot be divided over VMM processes of vcpus_per_vmm=2"]),
        (["fault_mix.minor=0.7"], ["the shares of fault_mix sum to 0.7, not 1"]),
        (["cores=5"], ["cores=5, but this process may use 4 CPUs"]),
        (["placement=explicit", "placement.vcpu_cpus=[0,9]"], ["placement names CPU 9", "use some of 0, 1, 2, 3"]),
        (["placement=explicit"], ["placement=explicit needs placement.vcpu_cpus"]),
        (
            ["placement.vcpu_cpus=[0]"],
            ["placement.vcpu_cpus=[0] is read only with placement=explicit: add that"],
        ),
        (["strategy.fault_around_pages=0"], ["strategy.fault_around_pages=0 is too small: use at least 1"]),
        (["vcpus=0"], ["vcpus=0 is too small: use at least 1"]),
        (["verify=words"], ["verify=words is unknown: use one of none, word, page"]),
        (["page_server.wait=nap"], ["page_server.wait=nap is unknown: use one of poll, epoll, spin"]),
        (["engine.name=qemu"], ["engine.name=qemu is unknown: use engine= with one of kvm, thread"]),
        (["engine=kvm"], ["engine=kvm needs /dev/kvm, which this process may not use: `modprobe kvm`"]),
        (["engine=kvm", "engine.guest_mode=hypervisor"], ["engine.guest_mode=hypervisor is unknown: use one of user, kernel"]),
        (["access.read_share=2"], ["access.read_share=2 is too large: use at most 1"]),
        (["access=zipf", "access.zipf_exponent=0"], ["access.zipf_exponent=0 is too small: use at least 0.01"]),
        (["access=trace"], ["access.trace_file is empty and has to name a file of page numbers"]),
        (["access=trace", "access.trace_file=/nowhere"], ["access.trace_file=/nowhere cannot be read: No such file"]),
        (["source.name=tape"], ["source.name=tape is unknown: use one of local, file, remote"]),
        (["source=file", "source.cache=hot", *ABSENT], ["source.cache=hot is unknown: use one of warm, cold"]),
        (["source=remote"], ["source=remote serves absent pages only", "use fault_mix=absent, or source=local"]),
        (
            ["source=file", "source.rtt_us=5", *ABSENT],
            ["source.rtt_us=5.0 is read only with source=remote: add that"],
        ),
        (["source.file=/x"], ["source.file=/x is read only with source=file"]),
        (
            ["source=file", "source.file=/nowhere", *ABSENT],
            ["cannot be read: No such file", "loadgen-source --snapshot /nowhere"],
        ),
        (["source=file", "source.file=/etc/passwd", *ABSENT], ["bytes and the region has 67108864", "memory.region_mib"]),
        (["source.contents=file"], ["source.contents=file is read only with source=file"]),
        (["source=remote", "source.contents=file", *ABSENT], ["source.contents=file is read only with source=file"]),
        (
            ["source=file", "source.contents=file", *ABSENT],
            ["source.contents=file verifies against a snapshot and source.file names none: use source.file=PATH"],
        ),
        ([*FOREIGN, "verify=page", *ABSENT], ["verify=page would read the snapshot", "use verify=word, which checks every page"]),
        ([*FOREIGN, "disturb=devices", *ABSENT], ["devices would read the snapshot", "use source.contents=seeded"]),
        (
            [*FOREIGN, "source.cache=cold", "memory=anon", "fault_mix.hit=0.5", "fault_mix.absent=0.5", "fault_mix.minor=0"],
            ["hit and swapped pages are read from the snapshot", "use source.cache=warm, fault_mix=absent, or memory=shmem"],
        ),
        (["source=remote", "source.address=there", *ABSENT], ["source.address: 'there' is no HOST:PORT, for example"]),
        (
            ["source=remote", "source.address=there:7000", "source.rtt_us=5", *ABSENT],
            ["leave source.address empty, or use its --rtt-us"],
        ),
        (["source=remote", "source.push=true", "memory=anon", *ABSENT], ["use source.push=false, or memory=shmem"]),
        (["source=remote", "source.retries=9", *ABSENT], ["gives the source 20 s and watchdog_s=10", "a larger watchdog_s"]),
        (
            ["source=remote", "source.rtt_us=3000000", *ABSENT],
            ["source.rtt_us=3000000 is not less than source.timeout_s=2"],
        ),
        (
            ["source=remote", "source.push=true", "source.push_mib_per_s=0.01", *ABSENT],
            ["sends a batch every 6.25 s", "use a smaller source.batch_pages"],
        ),
        (["source=remote", "source.connections=65", *ABSENT], ["source.connections=65 is too large: use at most 64"]),
        (["source=remote", "source.timeout_s=0", *ABSENT], ["source.timeout_s=0 is too small: use at least 0.001"]),
        (["memory.region_mib=1", "vcpus=300"], ["the region has 256 pages for vcpus=300"]),
        (["memory.region_mib=1", "uffds_per_vmm=300"], ["the region has 256 pages for uffds_per_vmm=300", "fewer userfaultfds"]),
    ],
)
def test_a_configuration_that_cannot_run_is_refused_with_its_remedy(
    configure: Configure, host: Host, overrides: list[str], texts: list[str]
) -> None:
    said = refusal(configure(*overrides), host)
    for text in texts:
        assert text in said


def test_every_problem_is_named_at_once(configure: Configure, host: Host) -> None:
    said = refusal(configure("vcpus=3", "vcpus_per_vmm=2", "fault_mix.minor=0.5", "cores=9"), host)
    assert said.count("\n- ") == 3


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"system": "Darwin"}, ["userfaultfd is a Linux facility and this is Darwin"]),
        (
            {"userfaultfd_way": "", "userfaultfd_errors": (("device", "Permission denied"),)},
            ["device: Permission denied", "run as root", "/dev/userfaultfd", "vm.unprivileged_userfaultfd=1"],
        ),
        (
            {"userfaultfd_features": frozenset({"MISSING_SHMEM", "SIGBUS"}), "kernel": "5.10.0"},
            ["kernel 5.10.0 lacks the userfaultfd feature MINOR_SHMEM"],
        ),
    ],
)
def test_a_host_that_cannot_run_it_is_named_with_the_ways_out(
    configure: Configure, host: Host, changes: dict[str, object], texts: list[str]
) -> None:
    said = refusal(configure("strategy=no_uffd_wait"), dataclasses.replace(host, **changes))  # type: ignore[arg-type]
    for text in texts:
        assert text in said


def test_populate_is_refused_where_userfaultfd_serves_user_mode_faults_only(configure: Configure, host: Host) -> None:
    user = dataclasses.replace(host, userfaultfd_way="user_mode_only", root=False)
    assert "strategy populate waits for faults inside MADV_POPULATE_WRITE" in refusal(configure("strategy=populate"), user)
    for strategy in ("uffd_wait", "no_slow_gup", "no_uffd_wait"):
        validate(configure(f"strategy={strategy}"), user)


def test_a_trace_outside_the_region_is_refused_and_one_inside_is_not(configure: Configure, host: Host, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("0\n255\n256\n")
    cfg = configure("access=trace", f"access.trace_file={trace}", "memory.region_mib=1")
    assert "contains page 256 and the region has 256 pages" in refusal(cfg, host)
    trace.write_text("0\n255\n")
    validate(cfg, host)
    trace.write_text("0\nfive\n")
    assert "line 2: 'five' is not a page number" in refusal(cfg, host)


@pytest.mark.parametrize(
    "overrides",
    [
        ["source=remote"],
        ["source=remote", "memory=anon", "source.connections=4"],
        ["source=remote", "source.push=true", "source.push_mib_per_s=100", "source.rtt_us=1000"],
        ["source=remote", "source.address='[fd00::2]:7000'", "watchdog_s=0", "source.retries=100"],
        ["source=file", "source.cache=cold"],
    ],
)
def test_sources_are_accepted(configure: Configure, host: Host, overrides: list[str]) -> None:
    validate(configure("fault_mix=absent", *overrides), host)


def test_the_defaults_are_accepted(configure: Configure, host: Host) -> None:
    validate(configure(), host)


@pytest.mark.parametrize("kib", [16, 64])
def test_a_kernel_with_larger_base_pages_is_refused_by_name(configure: Configure, host: Host, kib: int) -> None:
    assert _native.refuse_base_pages(4096) == ""
    refused = dataclasses.replace(host, refused_base_pages=_native.refuse_base_pages(kib << 10))
    assert f"base pages of {kib} KiB, and only those of 4 KiB are supported: boot a kernel with" in refusal(configure(), refused)
