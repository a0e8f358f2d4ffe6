"""A configuration as plain values: what rules and plans read, many times faster than the configuration itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

Config = DictConfig | Mapping[str, Any]
"""A configuration as Hydra composes it, or its plain values."""


def plain(cfg: Config) -> dict[str, Any]:
    """The resolved values, the caller's own to change. Raises OmegaConfBaseException where one is missing or cannot be
    resolved."""
    if isinstance(cfg, DictConfig):
        values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
        return values
    return copied(cfg)


def copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that shares no section and no list."""
    return {name: _copied(value) for name, value in values.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return copied(value)
    return list(value) if isinstance(value, list) else value
