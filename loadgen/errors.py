"""What the driver refuses before anything starts."""

from __future__ import annotations

from collections.abc import Sequence

NOTHING_STARTED = "Nothing was started:"


class ConfigError(Exception):
    """The configuration cannot be run. Each problem names what is wrong, the key and what to do; the command prints them
    without a traceback and ends with status 1."""

    def __init__(self, problems: Sequence[str], heading: str = NOTHING_STARTED) -> None:
        self.problems = tuple(problems)
        self.heading = heading
        super().__init__(f"{heading}\n" + "\n".join(f"- {problem}" for problem in problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[str, ...], str]]:
        return type(self), (self.problems, self.heading)  # a job of a launcher raises it here


class Carried(BaseException):
    """Carries an error past Hydra, which would print the overrides above it; `app` raises it again."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error
