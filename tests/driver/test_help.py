"""`loadgen --help`, `loadgen help NAME` and docs/configuration.md come from the schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.config.choices import choices, default_choices
from loadgen.config.help import WIDTH, about, whole
from loadgen.config.options import of_registries
from loadgen.config.schema import GROUPS, KEYS, SET_BY_THE_DRIVER
from loadgen.errors import ConfigError
from tools import configuration

ROOT = Path(__file__).parents[2]
HEAVY = ("ray", "pyarrow", "pandas", "scipy", "matplotlib")


def test_the_help_lists_every_group_choice_and_key_with_its_default_and_fits() -> None:
    text = whole()
    assert text.startswith("loadgen: ")
    assert max(map(len, text.splitlines())) <= WIDTH == 100
    for group in GROUPS:
        assert f"\n  {group} " in text
        for one in choices()[group]:
            assert one.name in text
    options = [key for by_choice in of_registries().values() for keys in by_choice.values() for key in keys]
    for key in (*KEYS, *options):
        if key.shown_default:
            assert f"  {key.name}={key.shown_default}" in text, key.name
            assert not key.unit or f"[{key.unit}]" in text, key.name
    for name in SET_BY_THE_DRIVER:
        assert f"  {name}=" not in text
    for group, default in default_choices().items():
        assert f"*{default}" in text, group


def test_a_key_a_group_and_a_choice_have_a_text_of_their_own() -> None:
    key = about("memory.region_mib")
    for part in ("memory.region_mib: size of the guest region", "default     64", "unit        MiB", "protects: page numbers"):
        assert part in key
    assert "set by      access=strided (8)" in about("access.stride_pages")
    assert "read with   access=strided" in about("access.stride_pages")
    assert " *permutation" in about("access")
    assert "strategy=eager: " in about("eager") and "strategy.populate_pages=512" in about("eager")
    with pytest.raises(ConfigError, match=r"similar names: source.connections"):
        about("connections")


def test_the_help_imports_neither_ray_nor_pyarrow() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']; from loadgen.app import main; main();"
        f" print([one for one in {HEAVY} if one in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert ended.stderr.strip() == "[]"
    assert ended.stdout == whole()


def test_the_page_of_the_configuration_is_current() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == "\n".join(configuration.lines()) + "\n", "run `python -m tools.configuration > docs/configuration.md`"
