"""Hydra composes the configuration once where the command line says whether it is one run or a sweep."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

from loadgen import app
from loadgen.config.known_mode import mode_from_options, mode_is_known
from tools.documents import ROOT

RUN, SWEEP = "1 run, ", "2 runs, "


def planned(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the configuration was composed for the plan; a sweep's jobs are not counted."""
    asked: list[Any] = []
    compose = Hydra.compose_config
    monkeypatch.setattr(Hydra, "compose_config", lambda self, *a, **b: asked.append(a) or compose(self, *a, **b))
    monkeypatch.setattr(sys, "argv", ["loadgen", *arguments, "dry_run=true"])
    app.main()
    return len(asked)


@pytest.mark.parametrize(
    ("arguments", "composed", "runs"),
    [
        (["vcpus=1"], 1, RUN),
        (["-m", "vcpus=1,2"], 1, SWEEP),
        (["--multirun", "vcpus=1,2"], 1, SWEEP),
        (["hydra.mode=MULTIRUN", "vcpus=1,2"], 2, SWEEP),
        (["hydra.mode=RUN", "vcpus=1"], 2, RUN),
    ],
)
def test_the_plan_is_of_the_mode_that_was_asked_for(
    arguments: list[str],
    composed: int,
    runs: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert planned(arguments, monkeypatch) == composed
    assert runs in capsys.readouterr().out


@pytest.mark.parametrize("override", ["experiment=readers", "+experiment=readers", "hydra.mode=MULTIRUN", "hydra/sweeper=basic"])
def test_what_may_set_the_mode_is_composed_for_it(override: str) -> None:
    assert mode_is_known([], ["vcpus=2"])
    assert not mode_is_known([], ["vcpus=2", override])
    assert not mode_is_known(["--config-dir", "mine"], ["vcpus=2"])


def test_no_file_but_an_experiment_sets_the_mode() -> None:
    files = {path: OmegaConf.select(OmegaConf.load(path), "hydra.mode") for path in (ROOT / "conf").rglob("*.yaml")}
    assert {path.parent.name for path, mode in files.items() if mode is not None} == {"experiment"}


def test_an_experiment_is_a_sweep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(["experiment=readers"], monkeypatch) == 2
    assert " runs, " in capsys.readouterr().out


def test_a_hydra_without_the_name_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Hydra.get_mode
    with mode_from_options():
        assert Hydra.get_mode is not reads
    assert Hydra.get_mode is reads
    monkeypatch.delattr(Hydra, "get_mode")
    with mode_from_options():
        assert not hasattr(Hydra, "get_mode")
