"""Handles of actors as the driver uses them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

ASIDE = "aside"


def actor_class(kind: type) -> Any:
    """An actor of this class: what is called `aside` has threads of its own, the rest is done in the order it was asked for."""
    remote: Any = ray.remote  # its stub does not know the groups
    return remote(num_cpus=0, concurrency_groups={ASIDE: 2})(kind)


def aside(method: Any) -> Any:
    """An actor's method, to be called while another one is under way there."""
    return method.options(concurrency_group=ASIDE)


class Replaceable:
    """An actor that another one may take the place of: its methods are those of whichever it is now."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._actor = start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._actor, name)

    def kill(self) -> None:
        """End it; nothing when it has ended."""
        with suppress(Exception):
            ray.kill(self._actor)

    def replace(self) -> None:
        """Start another one in its place. The old one is ended, if it is not dead as it was thought to be."""
        self.kill()
        self._actor = self._start()
