"""The choices of each group: YAML files of conf/, and what the native registries add to `strategy` and `engine`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from loadgen.config.conf_folder import conf_folder
from loadgen.config.schema import GROUPS
from workers.registry import engine_entries, strategy_entries


@dataclass(frozen=True)
class Choice:
    """A choice of a group; `sets`: keys of the group with a value of its own, by their name in the file."""

    name: str
    summary: str
    sets: Mapping[str, Any]


@cache
def choices() -> Mapping[str, tuple[Choice, ...]]:
    """Choices by group, both in the order of the schema and of the alphabet."""
    found = {group: {one.name: one for one in _files(group)} for group in GROUPS}
    for group, entries in (("engine", engine_entries()), ("strategy", strategy_entries())):
        found[group] |= {name: Choice(name, entry["summary"], {}) for name, entry in entries.items()}
    return {group: tuple(by_name[name] for name in sorted(by_name)) for group, by_name in found.items()}


@cache
def default_choices() -> Mapping[str, str]:
    """The choice of each group that is composed when none is given."""
    defaults = _plain((conf_folder() / "config.yaml").read_text())["defaults"]
    pairs = {key: value for one in defaults if isinstance(one, dict) for key, value in one.items()}
    return {group: str(pairs[group]) for group in GROUPS if pairs.get(group)}


def _files(group: str) -> Iterator[Choice]:
    for path in sorted((conf_folder() / group).glob("*.yaml")):
        text = path.read_text()
        comment = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
        meaning = [line for line in comment if not line.startswith(("@package", f"loadgen {group}="))]
        sets = _plain(text)
        yield Choice(path.stem, " ".join(meaning), {key: value for key, value in sets.items() if key != "defaults"})


def _plain(text: str) -> dict[str, Any]:
    found: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(text), resolve=False)  # type: ignore[assignment]
    return found
