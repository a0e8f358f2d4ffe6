"""Disturbances: how they combine, what is refused and how, what a run row says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from loadgen.config.validate import validate
from loadgen.errors import ConfigError
from loadgen.host.probe import Host
from loadgen.plan.plan import plan_run
from loadgen.run.columns import achieved, device_sleeps, disturber_rows
from loadgen.run.run_row import describe_disturb
from tests import specs
from tests.driver.fakes import USAGE
from workers.reports import VmmReport

Configure = Callable[..., DictConfig]


def refusal(cfg: DictConfig, host: Host) -> str:
    with pytest.raises(ConfigError) as error:
        validate(cfg, host)
    return str(error.value)


def test_nothing_goes_on_by_default(configure: Configure, host: Host) -> None:
    spec = plan_run(configure(), host).spec
    assert spec.disturb.active == ()
    assert describe_disturb(spec.disturb, 1)["disturb"] == "none"


def test_several_combine_in_one_run(configure: Configure, host: Host) -> None:
    cfg = configure("disturb=[balloon,devices_second,mmap_writers,migrator]", "vcpus=2")
    validate(cfg, host)
    planned = plan_run(cfg, host)
    row = describe_disturb(planned.spec.disturb, planned.spec.vmms)
    assert row["disturb"] == "balloon+migrator+mmap_writers+devices"
    assert row["device_per_s"] == 2 * 2 * 500
    assert planned.spec.disturb.native(2)["balloon"]["rate_per_s"] == 500


def test_a_second_mapping_has_a_userfaultfd_and_readers_of_its_own(configure: Configure, host: Host) -> None:
    spec = plan_run(configure("disturb=devices_second", "vcpus=2", "uffds_per_vmm=2"), host).spec
    assert spec.userfaultfds_per_vmm == 3
    assert len(spec.placement.reader_cpus) == 2 * 3


def test_pages_without_a_memfd_cannot_be_punched(configure: Configure, host: Host) -> None:
    cfg = configure("disturb=balloon", "disturb.balloon.method=punch", "memory=anon", "fault_mix=absent")
    assert "takes pages out of a memfd, and anonymous memory has none" in refusal(cfg, host)


def test_a_second_mapping_of_anonymous_memory_is_refused(configure: Configure, host: Host) -> None:
    cfg = configure("disturb=devices_second", "memory=anon", "fault_mix=absent")
    assert "anonymous memory has one mapping only: use disturb.devices.device_mapping=same" in refusal(cfg, host)


def test_without_a_userfaultfd_no_drop_is_reported_and_no_page_fetched_again(configure: Configure, host: Host) -> None:
    cfg = configure("strategy=null", "disturb=balloon", "disturb.balloon.method=remove")
    said = refusal(cfg, host)
    assert "no reader fetches a page again that disturb.balloon.method=remove removed" in said
    assert "use disturb.balloon.track_removes=false" in said
    validate(configure("strategy=null", "disturb=balloon_untracked"), host)


def test_a_kernel_that_does_not_report_drops_is_named(configure: Configure, host: Host) -> None:
    silent = dataclasses.replace(host, userfaultfd_features=host.userfaultfd_features - {"EVENT_REMOVE"})
    assert "kernel 6.18.0 cannot report dropped pages" in refusal(configure("disturb=balloon"), silent)


def test_devices_need_faults_handled_inside_the_kernel(configure: Configure, host: Host) -> None:
    user_mode = dataclasses.replace(host, userfaultfd_way="user_mode_only")
    assert "user-mode faults only: run as root" in refusal(configure("disturb=devices"), user_mode)


def test_migrating_needs_root(configure: Configure, host: Host) -> None:
    user = dataclasses.replace(host, may_migrate=False)
    assert "/proc/sys/vm/compact_memory" in refusal(configure("disturb=migrator"), user)


def test_unknown_words_list_the_known_ones(configure: Configure, host: Host) -> None:
    said = refusal(configure("disturb.balloon.method=free", "disturb.devices.device_mapping=third"), host)
    assert "disturb.balloon.method=free is unknown: use one of dontneed, remove, punch" in said
    assert "disturb.devices.device_mapping=third is unknown: use one of same, second" in said


def disturber(role: str, done: int, rate_per_s: float) -> dict[str, object]:
    return {"role": role, "number": 0, "tid": 7, "cpus": [0], "usage": USAGE, "done": done, "rate_per_s": rate_per_s} | {
        "seconds": 2.0,
        "wrong_words": 0,
        "first_wrong": "",
        "pages_dropped": done,
    }


def test_what_falls_short_of_nine_tenths_is_named_in_the_run_row() -> None:
    reports = [
        VmmReport({}, [], {}, [disturber("balloon", 170, 100.0), disturber("device", 1000, 500.0)]),
        VmmReport({}, [], {}, [disturber("device", 1000, 500.0)]),
    ]
    assert achieved(reports) == {
        "balloon_achieved_per_s": 85.0,
        "device_achieved_per_s": 1000.0,
        "not_achieved": "balloon: 85 of 100 a second",
    }


def test_sleeps_of_devices_are_merged_over_threads_and_processes() -> None:
    def device(sleeps: list[tuple[int, int]], longest: int) -> dict[str, object]:
        return disturber("device", 1, 1.0) | {"sleeps_ns": sleeps, "longest_sleep_ns": longest}

    first = VmmReport({}, [], {}, [device([(1000, 98)], 990), disturber("balloon", 1, 1.0)])
    second = VmmReport({}, [], {}, [device([(5000, 1), (7000, 1)], 6800), device([], 0)])
    assert device_sleeps([first, second]) == {
        "device_sleep_p50_ns": 1000,
        "device_sleep_p99_ns": 5000,
        "device_sleep_max_ns": 6800,
    }
    assert set(device_sleeps([VmmReport({}, [], {}, [device([], 0)])]).values()) == {None}


def test_what_runs_as_fast_as_it_goes_is_always_achieved() -> None:
    assert achieved([VmmReport({}, [], {}, [disturber("mmap_writer", 0, 0.0)])])["not_achieved"] is None


def test_a_disturbance_has_rows_of_threads_with_its_counters() -> None:
    [row] = disturber_rows([VmmReport({}, [], {}, [disturber("balloon", 170, 100.0)])])
    assert row["role"] == "balloon" and row["vmm"] == 0 and row["pages_dropped"] == 170
    assert row["asked_per_s"] == 100 and row["achieved_per_s"] == 85
    assert not {"done", "seconds", "usage"} & row.keys()


def test_a_balloon_that_is_off_tracks_nothing() -> None:
    assert not specs.run().disturb.balloon.tracks
