"""What the driver refuses before anything starts."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.errors import CompactHydraException


class ConfigError(CompactHydraException):
    """The configuration cannot be run. Each problem says what is wrong, which key, and what to do.

    One of Hydra's own exceptions, so that it is printed without a traceback and ends the command with status 1.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("Nothing was started:\n" + "\n".join(f"- {problem}" for problem in problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)  # a job elsewhere raises it here
