"""The structured config that Hydra composes, made from the keys of `loadgen.config.schema` and from the native registries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, make_dataclass
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from loadgen.config.key import CHOSEN, Key
from loadgen.config.options import of_registries
from loadgen.config.schema import KEYS, SET_BY_THE_DRIVER

ANY_CHOICE = ("engine", "strategy")
"""Groups whose keys depend on the choice."""


def register() -> None:
    """Put the structured config, the registries' strategies and engines and the choice of sweeper into Hydra's store."""
    store = ConfigStore.instance()
    store.store(name="schema", node=structured())
    for group, choices in of_registries().items():
        for name, keys in choices.items():
            options = [("name", str, field(default=name)), *(_field(key) for key in keys)]
            store.store(group=group, name=name, node=_listed(f"{group.capitalize()}_{name}", options))
    store.store(
        group="hydra/sweeper",
        name="loadgen",
        node={"_target_": "hydra_plugins.uffd_loadgen.LoadgenSweeper", "max_batch_size": None, "params": None, "also": []},
        provider="loadgen",
    )


@cache
def structured() -> type:
    """The whole configuration as a dataclass of dataclasses."""
    tree: dict[str, Any] = {}
    for key in KEYS:
        *sections, last = key.name.split(".")
        at = tree
        for section in sections:
            at = at.setdefault(section, {})
        at[last] = key
    fields = [*((group, Any, field(default=MISSING)) for group in ANY_CHOICE), *_fields(tree)]
    listed = [name for name, *_ in fields]
    fields += [(name, type(default), field(default=default)) for name, default in SET_BY_THE_DRIVER.items()]
    return make_dataclass(_with_keys("Config", listed), fields)


def _fields(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Fields of one section, its own sections among them, in the order of the schema."""
    for name, one in tree.items():
        if isinstance(one, Key):
            yield _field(one)
        else:
            section = _listed(f"{path}{name.title().replace('_', '')}", [*_fields(one, name.title())])
            yield name, section, field(default_factory=section)


def _field(key: Key) -> tuple[str, Any, Any]:
    name = key.name.rpartition(".")[2]
    if key.default is CHOSEN:
        return name, str, field(default=MISSING)
    if key.type is tuple:
        return name, list[int] if key.least is not None else list[str], field(default_factory=list)
    return name, key.type, field(default=key.default)


def _listed(name: str, fields: Sequence[tuple[str, Any, Any]]) -> type:
    return make_dataclass(_with_keys(name, [one for one, *_ in fields]), fields)


def _with_keys(name: str, keys: Sequence[str]) -> str:
    """OmegaConf's error for an unknown key quotes the name of the class and nothing else, so the name lists the keys."""
    return f"{name} (keys: {', '.join(keys)})"
