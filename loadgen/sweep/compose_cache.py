"""Configurations of a sweep's jobs, composed once for each set of groups and keys: Hydra takes 100 ms to compose one, and its
launcher composes each job again just before it runs. Jobs that differ in values only are copies with those values set."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from loadgen.config.schema import GROUPS
from loadgen.plan.values import copied, plain

REPEAT = "repeat"
"""The axis of a job's overrides that comes last."""


def repeated(overrides: list[str], repeat: int) -> list[str]:
    """Overrides of one repeat of a job."""
    return [*overrides, f"{REPEAT}={repeat}"]


@dataclass
class Template:
    """A configuration of the groups and keys that some jobs have in common.

    `whole`: with the node `hydra`; `values`: the plain values, None where one depends on another or is missing; `scratch`: to
    convert values with; `converted`: by override, the value that it sets, as the key's type has it.
    """

    whole: DictConfig
    task: DictConfig
    values: Mapping[str, Any] | None
    scratch: DictConfig
    converted: dict[str, Any] = field(default_factory=dict)


class Composed:
    """Stands in for Hydra's `loader`, and composes jobs that differ in values only from one of them."""

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._templates: dict[tuple[str, ...], Template] = {}

    def load_sweep_config(self, master: DictConfig, overrides: list[str]) -> DictConfig:
        """The configuration of a job, the node `hydra` included; the caller may change it. Raises what Hydra raises."""
        parsed = self._parse(overrides)
        found = _with_values(self._template(master, overrides, parsed).whole, parsed)
        with open_dict(found.hydra):
            found.hydra.overrides.task = [one for one in overrides if not one.startswith("hydra.")]
            named = found.hydra.job.config.override_dirname
            found.hydra.job.override_dirname = get_overrides_dirname(
                overrides=[one for one in parsed if not one.key_or_group.startswith("hydra")],
                exclude_keys=list(named.exclude_keys),
                item_sep=named.item_sep,
                kv_sep=named.kv_sep,
            )
        return found

    def task_config(self, master: DictConfig, overrides: list[str]) -> DictConfig:
        """The same without the node `hydra`."""
        parsed = self._parse(overrides)
        return _with_values(self._template(master, overrides, parsed).task, parsed)

    def values(self, master: DictConfig, overrides: list[str]) -> dict[str, Any]:
        """The plain values of `task_config`. Raises what Hydra and OmegaConf raise."""
        parsed = self._parse(overrides)
        template = self._template(master, overrides, parsed)
        if template.values is None or any(map(_is_no_plain_value, overrides)):
            return plain(_with_values(template.task, parsed))
        found = copied(template.values)
        for one, text in zip(parsed, overrides, strict=True):
            if _sets_a_value(one):
                if text not in template.converted:
                    template.converted[text] = _converted(template.scratch, one)
                _set(found, one.key_or_group, template.converted[text])
        return found

    def _parse(self, overrides: list[str]) -> list[Override]:
        for text in overrides:
            if text not in self._parsed:
                self._parsed[text] = self._parser.parse_override(text)
        return [self._parsed[text] for text in overrides]

    def _template(self, master: DictConfig, overrides: list[str], parsed: list[Override]) -> Template:
        """That of the same groups and keys."""
        shape = tuple(one.key_or_group if _sets_a_value(one) else text for one, text in zip(parsed, overrides, strict=True))
        if shape not in self._templates:
            whole = self._loader.load_sweep_config(master, overrides)
            task = copy.deepcopy(whole)
            with open_dict(task):
                del task["hydra"]
            raw: dict[str, Any] = OmegaConf.to_container(task)  # type: ignore[assignment]
            self._templates[shape] = Template(whole, task, None if _is_no_plain_value(str(raw)) else raw, copy.deepcopy(task))
        return self._templates[shape]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _with_values(template: DictConfig, parsed: list[Override]) -> DictConfig:
    found = copy.deepcopy(template)
    for one in parsed:
        if _sets_a_value(one):
            _update(found, one)
    return found


def _update(config: DictConfig, one: Override) -> None:
    try:
        OmegaConf.update(config, one.key_or_group, one.value(), merge=True)
    except OmegaConfBaseException as error:
        raise ConfigCompositionException(f"Error merging override {one.input_line}") from error


def _converted(scratch: DictConfig, one: Override) -> Any:
    """The value that the override sets, as the key's type has it. What `scratch` holds is of no account."""
    _update(scratch, one)
    value = OmegaConf.select(scratch, one.key_or_group)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values[section]
    values[last] = list(value) if isinstance(value, list) else value


def _is_no_plain_value(text: str) -> bool:
    """Whether there may be an interpolation in it, or a value that is missing."""
    return "${" in text or "???" in text


def _sets_a_value(override: Override) -> bool:
    key = override.key_or_group
    plain = key not in GROUPS and not key.startswith("hydra") and override.package is None
    return plain and override.type is not None and override.type.name == "CHANGE" and not isinstance(override.value(), dict)
