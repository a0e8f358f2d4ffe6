"""Hydra composes the configuration to learn its mode, and once more to run it: the first time is left out where nothing on the
command line can set the mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

MULTIRUN = {"-m", "--multirun"}
NAME = "get_mode"
"""Hydra's method that composes to learn the mode."""
SET_BY = ("hydra", "experiment")
"""How the keys begin that can set `hydra.mode`."""


def mode_is_known(options: Sequence[str], overrides: Sequence[str]) -> bool:
    """Whether the mode is that of the options alone: MULTIRUN with `-m`, else RUN."""
    return MULTIRUN.issuperset(options) and not any(one.lstrip("+~").startswith(SET_BY) for one in overrides)


@contextlib.contextmanager
def mode_from_options() -> Iterator[None]:
    """Hydra reads the mode from its options meanwhile. Nothing public does it: a Hydra without this name composes twice."""
    from hydra._internal import hydra

    command = getattr(hydra, "Hydra", None)
    reads = getattr(command, NAME, None)
    if command is None or reads is None:
        yield
        return
    setattr(command, NAME, _unset)
    try:
        yield
    finally:
        setattr(command, NAME, reads)


def _unset(*_: object, **__: object) -> None:
    """The mode of a configuration that sets none."""
