"""vCPUs against a fault handler that is not ours: the C program of tests/peers, by the published handshake."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tests import needs, specs
from tests.external import GUESTS, PAGES, SHMEM, SHORT, against, left_over
from workers.external.handler import HandlerError
from workers.spec import RunSpec

pytestmark = pytest.mark.usefixtures("snapshots_removed")


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize("regions", [1, 3])
@pytest.mark.parametrize("memory", ["shmem", "anon", "hugetlb"])
def test_every_page_of_a_foreign_handler_is_right(memory: str, regions: int) -> None:
    spec = GUESTS[memory]
    spec = dataclasses.replace(spec, memory=dataclasses.replace(spec.memory, regions=regions))
    ran = against(spec)
    assert (ran.stop_reason, ran.wrong_words, ran.broken) == ("", 0, [])
    assert ran.verified == ran.pages_resolved == spec.memory.pages
    assert ran.outcomes == {"external": spec.memory.pages}
    assert ran.seen["brought_untouched"] == 0
    assert ran.version == "test handler 1.0"
    assert sum(row["user_ns"] + row["system_ns"] for row in ran.seen["threads"]) > 0
    assert left_over() == []


@pytest.mark.parametrize("form", ["current", "old", "both"])
def test_a_handler_understands_each_form_of_the_message(form: str) -> None:
    assert against(SHMEM, message=form).verified == PAGES


@pytest.mark.parametrize("order", ["sequential", "strided", "zipf", "uniform"])
def test_every_order_of_accesses_and_overlapping_vcpus_are_served(order: str) -> None:
    access = specs.access(order=order, overlap=True, read_share=0.5, stride_pages=7)
    ran = against(dataclasses.replace(SHMEM, access=access))
    assert (ran.stop_reason, ran.wrong_words, ran.broken) == ("", 0, [])
    assert ran.verified == ran.pages_resolved


@needs.KVM
def test_kvm_vcpus_are_served_over_regions_with_gaps() -> None:
    spec = dataclasses.replace(SHMEM, engine="kvm", memory=dataclasses.replace(SHMEM.memory, regions=3))
    ran = against(spec)
    assert (ran.stop_reason, ran.wrong_words, ran.verified, ran.pages_resolved) == ("", 0, PAGES, PAGES)


def test_pages_brought_ahead_are_counted_apart_from_pages_on_demand_and_from_pages_never_touched() -> None:
    half = specs.access(order="sequential", accesses=PAGES // 4)  # of each of the two vCPUs
    demanded = against(dataclasses.replace(SHMEM, access=half))
    ahead = against(dataclasses.replace(SHMEM, access=dataclasses.replace(half, think_ns=50_000)), "--prefetch")
    assert demanded.seen["brought_untouched"] == 0
    assert demanded.pages_resolved == ahead.pages_resolved == PAGES // 2
    assert ahead.seen["brought_untouched"] > 0
    assert ahead.verified == ahead.pages_resolved + ahead.seen["brought_untouched"]  # those are verified, too
    assert ahead.faults < demanded.faults
    assert demanded.faults >= PAGES // 2


def balloon(spec: RunSpec, method: str, rate_per_s: float = 2000) -> RunSpec:
    drops = dataclasses.replace(spec.disturb.balloon, rate_per_s=rate_per_s, method=method)
    disturb = dataclasses.replace(spec.disturb, balloon=drops)
    passes = 6 * PAGES // spec.memory.pages
    return dataclasses.replace(spec, disturb=disturb, access=specs.access(overlap=True, passes=passes, think_ns=20_000))


def with_devices(spec: RunSpec) -> RunSpec:
    devices = dataclasses.replace(spec.disturb.devices, threads=2, rate_per_s=4000)
    return dataclasses.replace(spec, disturb=dataclasses.replace(spec.disturb, devices=devices))


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize(("memory", "method"), [("anon", "dontneed"), ("shmem", "remove"), ("hugetlb", "dontneed")])
@pytest.mark.parametrize("options", ["", "--prefetch"])
def test_what_a_balloon_dropped_reads_as_zeros(memory: str, method: str, options: str) -> None:
    ran = against(balloon(GUESTS[memory], method), options)
    assert (ran.stop_reason, ran.wrong_words, ran.first_wrong) == ("", 0, "")
    assert ran.dropped > 0
    assert ran.pages_resolved == GUESTS[memory].memory.pages  # each once, however often it was dropped


@needs.KVM
def test_a_kvm_vcpu_finds_zeros_in_what_a_balloon_dropped_and_contents_before() -> None:
    spec = balloon(GUESTS["anon"], "dontneed", rate_per_s=20_000)
    access = dataclasses.replace(spec.access, passes=2, think_ns=0)
    ran = against(dataclasses.replace(spec, engine="kvm", access=access))
    assert (ran.stop_reason, ran.wrong_words, ran.first_wrong) == ("", 0, "")
    assert ran.dropped > 0


def test_devices_are_served_in_the_kernel() -> None:
    ran = against(with_devices(SHMEM))
    assert (ran.stop_reason, ran.wrong_words) == ("", 0)


@pytest.mark.parametrize(("memory", "method"), [("anon", "dontneed"), ("shmem", "remove")])
def test_devices_beside_a_balloon_find_and_leave_zeros_in_what_it_dropped(memory: str, method: str) -> None:
    ran = against(with_devices(balloon(GUESTS[memory], method)))
    assert (ran.stop_reason, ran.wrong_words, ran.first_wrong) == ("", 0, "")
    assert ran.dropped > 0


def test_a_device_finds_contents_in_a_page_that_a_balloon_dropped_and_no_vcpu_touched_again() -> None:
    spec = with_devices(balloon(GUESTS["anon"], "dontneed"))
    ran = against(dataclasses.replace(spec, access=specs.access(hold_ns=500_000_000)), "--fault forgets-removes")
    assert re.search("^device: page .*; the balloon had dropped the page, so it must read as zeros", ran.first_wrong)


def test_several_vmm_processes_are_served_by_a_handler_that_serves_many() -> None:
    ran = against(dataclasses.replace(SHMEM, vcpus_per_vmm=1, access=specs.access(overlap=True)), "--serves-many", vmms=2)
    assert (ran.stop_reason, ran.wrong_words, ran.verified) == ("", 0, 2 * PAGES)


STUCK = r"vCPU \d made no progress for \d\.\d s: page \d+ is unresolved, stage: raised \(touched, not yet delivered\)"


@pytest.mark.parametrize(
    ("fault", "reason", "state"),
    [
        ("exits=3", r"^the handler ended with exit status 3 while it served; its stderr: handler: the disk of the snapshot", ""),
        ("signal=11", r"^the handler was killed by SIGSEGV while it served", ""),
        ("restarts", r"^the handler \(pid \d+\) ended while it served: .* started again; its stderr: handler: died", ""),
        ("freezes", STUCK, r"is stopped by a signal \(SIGSTOP\)"),
        ("skips", STUCK, r"runs, it holds the userfaultfd and left the fault unanswered"),
        ("wakes-only", STUCK, r"runs, it holds the userfaultfd and left the fault unanswered"),
        ("child-dies", r"\(pid \d+\) does not serve any longer: 1 of its 2 processes ended and holds no userfaultfd", ""),
        ("child-dies=1", STUCK, r"runs, 1 of its 2 processes ended, it holds the userfaultfd and left the fault unanswered"),
        ("closes", STUCK, r"runs, it has closed its userfaultfd .* silently become zero pages"),
        ("asks-to-map", r"sent a message to the VMM \('\{\"map\".* not supported, only UFFDIO_COPY and UFFDIO_ZEROPAGE", ""),
    ],
)
def test_a_handler_that_breaks_ends_the_run_by_name(fault: str, reason: str, state: str) -> None:
    ran = against(SHORT, f"--fault {fault}")
    assert re.search(reason, ran.stop_reason), ran.stop_reason
    assert re.search(state, ran.seen["state"]), ran.seen["state"]
    assert ran.wrong_words == 0  # pages that were not served are not checked
    assert left_over() == []


def test_a_handler_that_refuses_is_named_whether_it_closes_before_or_after_the_message_is_sent() -> None:
    try:
        said = against(SHORT, "--fault refuses").stop_reason
    except HandlerError as error:
        said = str(error)
    assert re.search(
        r"^the handler (\(pid \d+\) )?refused the VMM( at |: it closed the connection and holds no userfaultfd)", said
    )


def test_a_vmm_whose_message_a_handler_does_not_read_is_stuck_by_name() -> None:
    two = dataclasses.replace(SHORT, vcpus_per_vmm=1, access=specs.access(overlap=True))
    ran = against(two, vmms=2)  # and the handler serves its first VMM alone
    assert re.search(STUCK, ran.stop_reason), ran.stop_reason
    assert re.search(r"runs, it has not read the VMM's message: it serves no VMM, or another one$", ran.seen["state"])


@needs.KVM
def test_a_kvm_vcpu_that_a_handler_wakes_without_a_page_is_stuck_by_name() -> None:
    ran = against(dataclasses.replace(SHORT, engine="kvm"), "--fault wakes-only")
    assert re.search(STUCK, ran.stop_reason), ran.stop_reason
    assert "left the fault unanswered" in ran.seen["state"]


@pytest.mark.usefixtures("huge_pages")
def test_half_a_huge_page_is_no_answer() -> None:
    ran = against(dataclasses.replace(GUESTS["hugetlb"], watchdog_s=1.0), "--after 2 --fault half-page")
    assert re.search(STUCK, ran.stop_reason), ran.stop_reason
    assert "left the fault unanswered" in ran.seen["state"]


@pytest.mark.parametrize("fault", ["wrong-byte", "next-page", "zero-page", "zeropage", "unregisters"])
def test_wrong_contents_are_named_by_page_and_word(fault: str) -> None:
    ran = against(SHORT, f"--fault {fault}")
    assert ran.wrong_words > 0
    zeros = "" if fault in ("wrong-byte", "next-page") else r"; zeros: the handler served a zero page, or ended the registration"
    assert re.search(rf"^page \d+, word \d+: found 0x[0-9a-f]{{16}}, expected 0x[0-9a-f]{{16}}{zeros}", ran.first_wrong)


def test_a_page_that_a_handler_poisons_is_no_page() -> None:
    ran = against(SHORT, "--fault poisons")
    assert (ran.stop_reason, ran.wrong_words > 0) == ("", True)
    assert re.search(r"^page \d+: reading it raised SIGBUS; the handler poisoned it \(UFFDIO_POISON\)$", ran.first_wrong)


def test_a_handler_that_forgets_what_a_balloon_dropped_is_found() -> None:
    ran = against(dataclasses.replace(balloon(GUESTS["anon"], "dontneed"), watchdog_s=1.0), "--fault forgets-removes")
    assert "; the balloon had dropped the page, so it must read as zeros" in ran.first_wrong
    assert ran.wrong_words > ran.wrong_at_end, "an access finds it"


def test_a_dropped_page_that_a_handler_brings_back_and_nothing_touches_is_found_at_the_end() -> None:
    once = dataclasses.replace(balloon(GUESTS["anon"], "dontneed"), access=specs.access(think_ns=200_000))
    ran = against(once, "--fault restores-removes")
    assert ran.wrong_at_end > 0
    assert "; the balloon had dropped the page, so it must read as zeros" in ran.first_wrong


def test_a_handler_that_takes_eagain_for_an_answer_leaves_a_vcpu_asleep() -> None:
    spec = balloon(GUESTS["anon"], "dontneed", rate_per_s=200_000)
    ran = against(dataclasses.replace(spec, watchdog_s=1.0), "--fault ignores-eagain")
    assert re.search(STUCK.replace("unresolved", "(unresolved|discarded)"), ran.stop_reason)
    assert "left the fault unanswered" in ran.seen["state"]
