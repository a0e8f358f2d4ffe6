"""Where the configuration groups are: part of the installed package, or at the top of a checkout."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def config_path() -> str:
    """The package of the groups, as Hydra takes it."""
    return f"pkg://{_package()}"


def conf_folder() -> Path:
    """The folder of that package."""
    found = find_spec(_package())
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("the package conf is not installed")
    return Path(next(iter(found.submodule_search_locations)))


def _package() -> str:
    return "loadgen.conf" if find_spec("loadgen.conf") is not None else "conf"
