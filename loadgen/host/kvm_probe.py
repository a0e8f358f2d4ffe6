"""What this host's KVM does with a page that is not there: a guest of one page is run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np

from workers import _native
from workers.registry import engine_entry

PAGE_BYTES = 4096
WATCHDOG_S = 5.0


def kvm_facts() -> list[tuple[str, str]]:
    """(what, what there is): capabilities, vCPUs, and how the exit of each kind of guest arrives. Empty without KVM."""
    kvm = _native.probe_kvm()
    if not kvm["usable"]:
        return []
    modes = engine_entry("kvm")["options"][0]["choices"]
    return [
        ("KVM has", ", ".join(kvm["capabilities"])),
        ("KVM vCPUs", f"at most {kvm['most_vcpus']} in a VM, {kvm['best_vcpus']} recommended"),
        *((f"KVM exit, guest in {mode} mode", one_page_guest(number)) for number, mode in enumerate(modes)),
        ("KVM exit after fast GUP", kvm["exit_on_missing"] or "there is one"),
        *own_accesses(),
    ]


def own_accesses() -> Iterator[tuple[str, str]]:
    """What becomes of each access that KVM makes by itself to a page that is not there."""
    try:
        tried = _native.try_own_accesses()
    except OSError as error:
        yield "KVM's own accesses", str(error)
        return
    for access, found in itertools.groupby(sorted(tried, key=itemgetter("access", "refuses")), itemgetter("access")):
        asleep, refused = found
        served = f"{asleep['seen']}, {asleep['events']} resolved by a reader"
        yield f"KVM's own access: {access}", f"{served}; on a mapping that refuses to sleep: {refused['seen']}"


def one_page_guest(guest_mode: int) -> str:
    """How the exit of an access to a page that is not mapped arrives, or why there was none."""
    config: dict[str, Any] = {
        "region_bytes": PAGE_BYTES,
        "page_bytes": PAGE_BYTES,
        "vcpus": 1,
        "vcpus_per_vmm": 1,
    }
    try:
        guest = _native.Guest(config)
        guest.fill(np.array([_native.KINDS.index("minor")], np.uint8))
        asked = {"engine": "kvm", "engine_options": {"guest_mode": guest_mode}, "strategy": "no_uffd_wait"}
        vmm = _native.Vmm(guest, {**asked, "record_capacity": 1, "watchdog_s": WATCHDOG_S})
        vmm.prepare()
        vmm.run()
        vmm.finish()
    except (OSError, ValueError) as error:
        return str(error)
    if guest.stop_reason():
        return guest.stop_reason()
    [record] = vmm.records(0)
    return _native.EXITS[int(record["exit"])]
