"""Guests over hosts: where each goes, on which CPUs, with which seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from loadgen.config.validate import validate, validate_cells
from loadgen.errors import ConfigError
from loadgen.host.probe import Host
from loadgen.plan.guests_over_hosts import exclusive, most_on_a_host, plan_guests

Configure = Callable[..., DictConfig]


def test_guests_go_over_the_hosts_in_turn_and_hold_different_contents(configure: Configure, host: Host) -> None:
    planned = plan_guests(configure("sweep_id=s", "guests=5"), [host] * 3)
    assert [guest.host for guest in planned.guests] == [0, 1, 2, 0, 1]
    assert [guest.spec.seed for guest in planned.guests] == [1, 2, 3, 4, 5]
    assert [guest.spec.source.seed for guest in planned.guests] == [1, 2, 3, 4, 5]
    assert all(guest.spec.gated for guest in planned.guests)
    again = plan_guests(configure("sweep_id=s", "guests=5", "repeat=1"), [host] * 3)
    assert [guest.spec.seed for guest in again.guests] == [6, 7, 8, 9, 10]


def test_a_single_guest_is_planned_as_ever_and_starts_by_itself(configure: Configure, host: Host) -> None:
    planned = plan_guests(configure("sweep_id=s", "repeat=3"), [host])
    assert not planned.spec.gated
    assert (planned.spec.seed, len(planned.guests)) == (4, 1)


def test_guests_of_one_source_elsewhere_share_the_memory_it_holds(configure: Configure, host: Host) -> None:
    planned = plan_guests(configure("sweep_id=s", "guests=2", "source=remote", "source.address=there:1"), [host])
    assert {guest.spec.source.seed for guest in planned.guests} == {1}


def test_each_guest_is_pinned_to_cpus_of_its_own_host(configure: Configure, host: Host) -> None:
    other = dataclasses.replace(host, cpus=(8, 9))
    planned = plan_guests(configure("sweep_id=s", "guests=2", "cores=2"), [host, other])
    assert [guest.spec.placement.vcpu_cpus for guest in planned.guests] == [((0,),), ((8,),)]


def test_guests_of_one_host_go_on_where_the_one_before_ended(configure: Configure, host: Host) -> None:
    two = plan_guests(configure("sweep_id=s", "guests=2"), [host]).guests
    assert [guest.spec.placement.vcpu_cpus for guest in two] == [((0,),), ((2,),)]
    assert [guest.spec.placement.reader_cpus for guest in two] == [((1,),), ((3,),)]
    assert exclusive(two)
    assert not exclusive(plan_guests(configure("sweep_id=s", "guests=3"), [host]).guests)
    packed = plan_guests(configure("sweep_id=s", "guests=2", "placement=pack"), [host]).guests
    assert [guest.spec.placement.vcpu_cpus for guest in packed] == [((0,),), ((1,),)]


def test_memory_is_that_of_the_host_with_the_most_guests(configure: Configure, host: Host) -> None:
    assert [most_on_a_host(guests, 3) for guests in (1, 3, 4, 7)] == [1, 1, 2, 3]
    one = plan_guests(configure("sweep_id=s"), [host]).memory_bytes
    assert plan_guests(configure("sweep_id=s", "guests=4"), [host] * 3).memory_bytes == 2 * one
    small = dataclasses.replace(host, free_bytes=one + 1)
    validate(configure("guests=2"), small, 2)
    with pytest.raises(ConfigError, match=r"the run needs .* MiB and .* MiB are free: .* fewer guests"):
        validate(configure("guests=2"), small, 1)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["cluster=existing"], "cluster=existing needs cluster.address, for example 10.0.0.1:6379"),
        (["cluster=existing", "cluster.address=a:1", "swap=zram"], "swap=zram is set up on the driver's own host only"),
        (["cluster.address=a:1"], "is read only with cluster=existing"),
        (["cluster.leave_out=[a]"], "is read only with cluster=existing"),
        (["cluster.name=cloud"], "cluster.name=cloud is unknown: use one of local, existing"),
        (["guests=0"], "guests=0 is too small: use at least 1"),
        (["guests=1000", "vcpus=100"], "guests=1000 of vcpus=100 are more than 65536 vCPUs"),
    ],
)
def test_what_cannot_be_is_refused(configure: Configure, host: Host, overrides: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cfg = configure(*overrides)
        validate(cfg, host)
        validate_cells([cfg])
    assert text in str(caught.value)


def test_of_hosts_that_are_elsewhere_only_what_is_wrong_anywhere_is_asked(configure: Configure, host: Host) -> None:
    helpless = dataclasses.replace(host, userfaultfd_way="", userfaultfd_features=frozenset(), free_bytes=0)
    validate(configure("cores=64"), helpless, whole=False)
    with pytest.raises(ConfigError, match="is too small"):
        validate(configure("vcpus=0"), helpless, whole=False)
