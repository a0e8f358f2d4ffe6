"""What every actor of a session has in common."""

from __future__ import annotations

from workers.deadman import Deadman


class Actor:
    """Ends its process when the driver gives no sign of life for `deadman_s` seconds (0: never); see `workers.deadman`."""

    def __init__(self, deadman_s: float = 0.0) -> None:
        self._deadman = Deadman(deadman_s)

    def sign_of_life(self) -> None:
        """The driver lives; may be called while any other method is under way."""
        self._deadman.sign()
