"""How many rounds a planned run may have, and how many records they need."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from loadgen.host.probe import Host
from loadgen.plan.plan import plan_run
from loadgen.plan.rounds import FASTEST_FAULTS_PER_S, measured_s

Configure = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("strategy=eager",), "strategy=eager restores the guest once"),
        (("strategy=file_map", "source=file", "fault_mix=absent"), "strategy=file_map restores the guest once"),
        (("prefetch=order",), "prefetch brings each page once"),
        (("source=remote", "source.push=true"), "source.push sends each page once"),
        (("source=file", "source.cache=cold"), "source.cache=cold: after one round the snapshot is in the page cache"),
        (("page_server.drop_events_share=0.1",), "the page server makes faults on purpose"),
        (("measure_s=0",), "measure_s=0"),
        (("rounds_limit=1",), "rounds_limit=1"),
    ],
)
def test_what_asks_for_one_restore_keeps_one_round_and_says_why(
    configure: Configure, host: Host, overrides: tuple[str, ...], reason: str
) -> None:
    spec = plan_run(configure("sweep_id=s", *overrides), host).spec
    assert (spec.most_rounds, spec.one_round) == (1, reason)


def test_every_other_run_may_have_rounds(configure: Configure, host: Host) -> None:
    for overrides in (
        ("guests=2",),
        ("disturb=balloon",),
        ("recover=true",),
        ("engine=kvm",),
        ("memory=anon", "fault_mix=absent"),
    ):
        spec = plan_run(configure("sweep_id=s", *overrides), host).spec
        assert (spec.most_rounds, spec.one_round) == (100, "")


def test_records_have_room_for_the_fastest_rounds(configure: Configure, host: Host) -> None:
    small = plan_run(configure("sweep_id=s", "vcpus=2", "memory.region_mib=1", "rounds_limit=60000"), host).spec
    assert 2 * small.record_capacity >= 0.5 * FASTEST_FAULTS_PER_S
    assert small.sample_every == 1
    few = plan_run(configure("sweep_id=s", "vcpus=2", "memory.region_mib=1", "rounds_limit=3"), host).spec
    assert 3 * 128 <= few.record_capacity < 4 * 256


def test_a_slow_round_is_the_only_one_and_fast_ones_sum_to_the_time_asked_for(configure: Configure, host: Host) -> None:
    spec = plan_run(configure("sweep_id=s", "rounds_limit=10"), host).spec
    assert measured_s(spec, 2.0) == 2.0
    assert measured_s(spec, 0.1) == 0.5
    assert measured_s(spec, 0.01) == pytest.approx(0.1)  # rounds_limit
