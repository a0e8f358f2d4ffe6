"""The README's guide: its questions, each one command or one query, with what it printed.

`python -m tests.e2e.guide` runs them on `outputs/dataset` and writes what they print now into the README.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tests.e2e.command import run

README = Path(__file__).parents[2] / "README.md"
SECTION = "## Ask the data"

_ASKED = r"^### (?P<title>.*?)\n.*?^```(?P<language>sh|sql)\n(?P<asked>.*?)^```"
_QUESTION = re.compile(_ASKED + r"\n+^```\n(?P<printed>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Question:
    """`asked`: a shell command or an SQL query, by `language`; `printed`: what the README says it prints."""

    title: str
    language: str
    asked: str
    printed: str

    def ask(self, folder: Path) -> str:
        """Ask it in a folder with outputs/dataset."""
        if self.language == "sql":
            query = self.asked.replace("'outputs/", f"'{folder}/outputs/")
            return str(duckdb.sql(query))
        command, *arguments = shlex.split(self.asked)
        done = run(folder, command, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


def questions(text: str) -> list[Question]:
    """The questions in the README's text, in order."""
    section = text.partition(SECTION)[2].partition("\n## ")[0]
    return [Question(**found.groupdict()) for found in _QUESTION.finditer(section)]


def answered(text: str, folder: Path) -> str:
    """The text with what every question prints in `folder`."""
    for question in questions(text):
        printed = "\n".join(line.rstrip() for line in question.ask(folder).splitlines()).strip("\n")
        text = text.replace(f"{question.asked}```\n\n```\n{question.printed}```", f"{question.asked}```\n\n```\n{printed}\n```")
    return text


if __name__ == "__main__":
    README.write_text(answered(README.read_text(), Path.cwd()))
