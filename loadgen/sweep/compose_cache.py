"""Configurations of a sweep's jobs, composed once for each set of groups and keys: Hydra takes 100 ms to compose one, and its
launcher composes each job again just before it runs. Jobs that differ in values only are copies with those values set."""

from __future__ import annotations

import copy
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from loadgen.config.schema import GROUPS

REPEAT = "repeat"
"""The axis of a job's overrides that comes last."""


def repeated(overrides: list[str], repeat: int) -> list[str]:
    """Overrides of one repeat of a job."""
    return [*overrides, f"{REPEAT}={repeat}"]


class Composed:
    """Stands in for Hydra's `loader`, and composes jobs that differ in values only from one of them."""

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._parser = OverridesParser.create()
        self._templates: dict[tuple[str, ...], tuple[DictConfig, DictConfig]] = {}

    def load_sweep_config(self, master: DictConfig, overrides: list[str]) -> DictConfig:
        """The configuration of a job, the node `hydra` included; the caller may change it. Raises what Hydra raises."""
        parsed = self._parser.parse_overrides(overrides)
        found = _with_values(self._template(master, overrides, parsed)[0], parsed)
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
        parsed = self._parser.parse_overrides(overrides)
        return _with_values(self._template(master, overrides, parsed)[1], parsed)

    def _template(self, master: DictConfig, overrides: list[str], parsed: list[Override]) -> tuple[DictConfig, DictConfig]:
        """A configuration of the same groups and keys, with the node `hydra` and without."""
        shape = tuple(one.key_or_group if _sets_a_value(one) else text for one, text in zip(parsed, overrides, strict=True))
        if shape not in self._templates:
            whole = self._loader.load_sweep_config(master, overrides)
            task = copy.deepcopy(whole)
            with open_dict(task):
                del task["hydra"]
            self._templates[shape] = whole, task
        return self._templates[shape]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _with_values(template: DictConfig, parsed: list[Override]) -> DictConfig:
    found = copy.deepcopy(template)
    for one in parsed:
        if _sets_a_value(one):
            try:
                OmegaConf.update(found, one.key_or_group, one.value(), merge=True)
            except OmegaConfBaseException as error:
                raise ConfigCompositionException(f"Error merging override {one.input_line}") from error
    return found


def _sets_a_value(override: Override) -> bool:
    key = override.key_or_group
    plain = key not in GROUPS and not key.startswith("hydra") and override.package is None
    return plain and override.type is not None and override.type.name == "CHANGE" and not isinstance(override.value(), dict)
