"""`python -m tools.guide`: ask the questions of docs/analysis.md of `outputs/dataset` and write what they print into the page."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb

PAGE = Path(__file__).parents[1] / "docs" / "analysis.md"
BIN = Path(sys.executable).parent

_ASKED = r"^## (?P<title>[^\n]*?)\n(?:(?!^## ).)*?^```(?P<language>sh|sql)\n(?P<asked>.*?)^```"
_QUESTION = re.compile(_ASKED + r"\n+^```\n(?P<printed>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Question:
    """`asked`: a shell command or an SQL query, by `language`; `printed`: what the page shows as its output."""

    title: str
    language: str
    asked: str
    printed: str

    def ask(self, folder: Path) -> str:
        """What it prints in a folder with outputs/dataset. Raises CalledProcessError when the command fails."""
        if self.language == "sql":
            query = self.asked.replace("'outputs/", f"'{folder}/outputs/")
            return str(duckdb.sql(query))
        command, *arguments = shlex.split(self.asked)
        done = subprocess.run([BIN / command, *arguments], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout


def questions(text: str) -> list[Question]:
    """The questions of a page, in order."""
    return [Question(**found.groupdict()) for found in _QUESTION.finditer(text)]


def answered(text: str, folder: Path) -> str:
    """The page with what every question prints in `folder`."""
    for question in questions(text):
        printed = "\n".join(line.rstrip() for line in question.ask(folder).splitlines()).strip("\n")
        text = text.replace(f"{question.asked}```\n\n```\n{question.printed}```", f"{question.asked}```\n\n```\n{printed}\n```")
    return text


if __name__ == "__main__":
    PAGE.write_text(answered(PAGE.read_text(), Path.cwd()))
