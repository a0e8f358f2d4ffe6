"""A Ray whose calls are plain Python, and whose clock goes on only while it is waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.exceptions import GetTimeoutError


class Reference:
    """A call of `name` that is under way; `done` is False for one that does not come back yet."""

    def __init__(self, name: str, call: Callable[[], Any], done: Callable[[], bool]) -> None:
        self.name = name
        self.call = call
        self.done = done


class FakeRay:
    """`get` and `wait` as the driver uses them. `waits`: what happens in each wait for the vCPUs, in turn. `clock` goes on by the
    time of each wait without a result."""

    def __init__(self) -> None:
        self.waits: list[Callable[[], None]] = []
        self.clock = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.clock

    def get(self, references: Any, timeout: float | None = None) -> Any:
        """Values; GetTimeoutError for a call that does not come back."""
        if isinstance(references, Reference):
            return self.get([references], timeout)[0]
        if not all(reference.done() for reference in references):
            raise GetTimeoutError("Get timed out: some object(s) not ready.")
        return [reference.call() for reference in references]

    def wait(
        self, references: Sequence[Reference], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Reference], list[Reference]]:
        """Those that are done, at most `num_returns`, and the others."""
        if self.waits and any(reference.name == "run" for reference in references):
            self.waits.pop(0)()
        if not all(reference.done() for reference in references):
            self.clock += timeout or 0.0
        done = [reference for reference in references if reference.done()][:num_returns]
        return done, [reference for reference in references if reference not in done]
