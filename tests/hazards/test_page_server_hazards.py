"""Each hazard's preset, run as its sweep has it: the hazard happens, and is survived or named."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, open_dict

from loadgen.config.validate import validate
from loadgen.host.probe import probe
from loadgen.plan.plan import plan_run
from tests.driver.conftest import _registered, configure  # noqa: F401  (fixtures)
from tests.in_process import Ran, run_in_process

Configure = Callable[..., DictConfig]
PRESETS = Path(__file__).parents[2] / "conf" / "experiment"


@pytest.fixture
def run_preset(configure: Configure) -> Callable[[str], dict[tuple[str, ...], Ran]]:  # noqa: F811
    """Every job of a preset's sweep, by the values that tell it from the others."""

    def run(name: str) -> dict[tuple[str, ...], Ran]:
        whole = configure(f"experiment={name}", return_hydra_config=True)
        params = dict(whole.hydra.sweeper.params)
        found = {}
        for values in itertools.product(*(str(value).split(",") for value in params.values())):
            overrides = [f"{key}={value}" for key, value in zip(params, values, strict=True)]
            cfg = configure(f"experiment={name}", *overrides, "measure_s=0", "sweep_id=s")
            with open_dict(cfg):
                cfg.pop("hydra", None)
            validate(cfg, probe())
            found[values] = run_in_process(plan_run(cfg, probe()).spec)
        return found

    return run


def sound(ran: Ran) -> bool:
    return (ran.stop_reason, ran.wrong_words, ran.broken, ran.unprepared) == ("", 0, [], 0)


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("hazard_*.yaml")))
def test_a_hazards_preset_says_its_command_and_its_question(preset: str) -> None:
    package, command, question, *_ = (PRESETS / f"{preset}.yaml").read_text().splitlines()
    assert (package, command) == ("# @package _global_", f"# loadgen experiment={preset}")
    assert question.startswith("# ") and question.endswith("?")


def test_a_blind_resolve_of_poison_is_seen_as_wrong_words_and_a_record_of_its_own_prevents_it(run_preset: Callable) -> None:
    for (record, strategy), ran in run_preset("hazard_blind_resolve").items():
        assert ran.stop_reason == "" and ran.broken == [], strategy
        poisoned = ran.prepared["poisoned"]
        assert poisoned == 205
        if record == "bitmap":
            assert (ran.wrong_words, ran.vcpus["memory_errors"], ran.refused) == (0, poisoned, poisoned), strategy
        else:
            assert (ran.vcpus["memory_errors"], ran.refused) == (0, 0), strategy
            assert ran.wrong_words >= poisoned * 512, strategy


def test_lost_races_are_counted_and_a_sleeper_whose_racer_won_is_woken(run_preset: Callable) -> None:
    for (strategy,), ran in run_preset("hazard_lost_races").items():
        assert sound(ran), (strategy, ran)
        assert ran.pages_resolved == 4096, strategy
        if strategy in ("uffd_wait", "populate"):
            assert 0 < ran.server["events_lost"] == ran.server["wakes"], strategy
        else:
            assert ran.vcpus["lost_races"] > 0, strategy


def test_an_event_that_a_reader_forgot_comes_again_with_a_wake_and_never_without(run_preset: Callable) -> None:
    found = run_preset("hazard_forgotten_event")
    woken, slept = found["20",], found["0",]
    assert sound(woken)
    assert 0 < woken.server["events_dropped"] == woken.server["events"] - 1024
    assert slept.server["events_dropped"] > 0
    assert slept.stop_reason.startswith("stuck: vCPU 0 made no progress for 2.")
    assert "is unresolved, stage: raised (touched, not yet delivered)" in slept.stop_reason


def test_a_page_published_half_filled_is_read_wrong_unless_the_contents_bit_is_asked(run_preset: Callable) -> None:
    found = run_preset("hazard_half_filled")
    assert sound(found["true",])
    assert found["false",].wrong_words > 0
    assert (found["false",].stop_reason, found["false",].broken) == ("", [])


def test_when_the_last_userfaultfd_is_closed_the_guest_reads_zeros_and_verification_says_so(run_preset: Callable) -> None:
    found = run_preset("hazard_last_descriptor")
    assert sound(found["0",])
    lost = found["100",]
    assert lost.server["events_dropped"] == 1
    assert lost.wrong_words == 1024 - 100
    assert lost.stop_reason == ""
