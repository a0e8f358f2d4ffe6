"""How often something that fails is tried again."""

from __future__ import annotations

from time import monotonic

LEAST_TRIES = 5


class Patience:
    """For `seconds` from now on, but LEAST_TRIES at the least: on a busy host a few tries may take all of the time, and where
    tries are quick, a few of them fail within one moment of bad luck. `tries`: those that have failed."""

    def __init__(self, seconds: float) -> None:
        self.tries = 0
        self._until = monotonic() + seconds

    def over(self) -> bool:
        """A try has failed: whether it was the last one."""
        self.tries += 1
        return self.tries >= LEAST_TRIES and monotonic() >= self._until
