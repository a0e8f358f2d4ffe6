"""The configuration groups as Hydra lists them: choices of the core and of YAML files together, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from loadgen.app import config_path
from workers.registry import engine_entries, strategy_entries

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("group", ["strategy", "engine"])
def test_a_group_of_the_core_lists_its_registry_and_the_presets_and_explains_itself(group: str) -> None:
    entries = {"strategy": strategy_entries, "engine": engine_entries}[group]
    presets = [preset.stem for preset in (CONF / group).glob("*.yaml")]
    with initialize_config_module(config_path().removeprefix("pkg://"), version_base="1.3"):
        listed = GlobalHydra.instance().config_loader().get_group_options(group)
    assert sorted(listed) == sorted([*entries(), *presets])
    assert "The choices come from the native core" in (CONF / group / "README.md").read_text()
