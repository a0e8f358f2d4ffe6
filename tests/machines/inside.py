"""What runs on a machine, as Python: the doctor, one run, the refusals of what its kernel lacks, and the conformance table.

Its lines are those of the native tests, so that one parser reads both.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator

from hydra import compose, initialize_config_module

from loadgen import doctor
from loadgen.config.conf_folder import config_path
from loadgen.config.hydra_schema import register
from loadgen.config.validate import validate
from loadgen.errors import ConfigError
from loadgen.host.probe import probe
from loadgen.plan.legality import judge
from loadgen.sweep.sweeper import register_sweeper
from tests.conformance.run import expected, found, run_cell, spec_of
from tests.conformance.table import Row, rows
from tests.in_process import run_in_process
from workers.registry import strategy_entry


class Skipped(Exception):
    """The machine lacks what a test needs."""


def the_doctor_finds_what_can_be_run() -> None:
    """Exit status 0: something can be measured here."""
    assert doctor.main() == 0


def a_run_through_the_actors_classes_resolves_every_page() -> None:
    """The run without Ray that the driver's tests make."""
    ran = run_in_process(spec_of("no_uffd_wait", "shmem", "minor"))
    assert (ran.stop_reason, ran.broken, ran.wrong_words, ran.pages_resolved) == ("", [], 0, 64)


def poisoned_pages_are_refused_where_the_kernel_cannot_poison() -> None:
    """Linux 6.6 brought UFFDIO_POISON."""
    host = probe()
    if "POISON" in host.userfaultfd_features:
        raise Skipped("this kernel can poison pages")
    for overrides in (["fault_mix=poisoned"], ["fault_mix.poisoned=0.5", "fault_mix.minor=0.5"]):
        assert "cannot poison pages (UFFDIO_POISON is Linux 6.6); use another fault_mix" in refusal(overrides)


def guests_that_exit_after_fast_gup_are_refused_where_kvm_cannot() -> None:
    """No kernel has it yet."""
    host = probe()
    if not host.kvm or not host.kvm_exit_on_missing:
        raise Skipped("no KVM" if not host.kvm else "this KVM exits when fast GUP fails")
    assert "does not exit when fast GUP fails" in refusal(["engine=kvm", "strategy=no_slow_gup"])


def memory_on_a_node_that_is_not_there_is_refused() -> None:
    """And so are readers on another node where there is one node."""
    assert "has no memory on that node: use " in refusal(["memory.numa=node:63"])
    if len(probe().numa) == 1:
        assert "needs CPUs of two NUMA nodes" in refusal(["placement=other_node"])


def refusal(overrides: list[str]) -> str:
    """What the validation finds in a configuration on this host; empty where it may run."""
    with initialize_config_module(config_path().removeprefix("pkg://"), version_base="1.3"):
        try:
            validate(compose("config", ["memory.region_mib=1", *overrides]), probe())
        except ConfigError as error:
            return str(error)
    return ""


def conformance(row: Row) -> None:
    """A line of the table, exactly; or refused, with the reason of the legality matrix."""
    state = row.state.split()[0]
    verdict = judge(strategy_entry(row.strategy.partition(",")[0]), row.memory, state, probe())
    if not verdict.allowed:
        raise Skipped(verdict.reason)
    ran, wanted = found(run_cell(row.strategy, row.memory, row.state)), expected(row)
    assert ran == wanted, {key: (ran[key], wanted[key]) for key in ran if ran[key] != wanted[key]}


def tests() -> Iterator[tuple[str, Callable[[], None]]]:
    """Each by its name."""
    for test in (
        the_doctor_finds_what_can_be_run,
        a_run_through_the_actors_classes_resolves_every_page,
        poisoned_pages_are_refused_where_the_kernel_cannot_poison,
        guests_that_exit_after_fast_gup_are_refused_where_kvm_cannot,
        memory_on_a_node_that_is_not_there_is_refused,
    ):
        yield test.__name__.replace("_", " "), test
    for row in rows():
        yield f"conformance {row.id}", lambda row=row: conformance(row)  # type: ignore[misc]


def main() -> int:
    """Entry point."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    passed = failed = skipped = 0
    register()
    register_sweeper()
    for name, test in tests():
        if wanted not in name:
            continue
        try:
            test()
            passed += 1
        except Skipped as why:
            skipped += 1
            print(f"SKIPPED {name}\n  {why}")
        except Exception:
            failed += 1
            last = " / ".join(traceback.format_exc().strip().splitlines()[-3:])
            print(f"FAILED {name}\n  {last}")
        sys.stdout.flush()
    print(f"python: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0 if passed + skipped else 2


if __name__ == "__main__":
    raise SystemExit(main())
