"""The documents a person reads, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", *(f"docs/{page}.md" for page in ("workloads", "kvm", "cluster")))
DOCUMENTS += ("docs/analysis.md", "docs/failures.md", "docs/handlers.md", "docs/serve.md")
PROGRAMS = ("loadgen", "loadgen-doctor", "loadgen-report", "loadgen-serve", "loadgen-source", "make", "pip", "python", "ray")

_FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
_BLOCK = re.compile(r"^```(?:sh)?\n(.*?)^```$", re.M | re.S)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_SETTING = re.compile(r"[A-Z_a-z0-9]+=")


@dataclass(frozen=True)
class Command:
    """A command as a document shows it: `words` without the variables set before it and without a comment behind it."""

    document: str
    text: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {self.text}"


def commands() -> list[Command]:
    """The commands of all documents: lines of a block, and code in the text that has arguments."""
    return [command for document in DOCUMENTS for command in _commands(document, (ROOT / document).read_text())]


def _commands(document: str, text: str) -> Iterator[Command]:
    lines = [line for block in _BLOCK.findall(text) for line in block.splitlines()]
    inline = [code for code in _INLINE.findall(_FENCED.sub("", text)) if " " in code and "..." not in code]
    for line in (*lines, *inline):
        words = _words(line)
        if words and words[0] in PROGRAMS:
            yield Command(document, line.partition(" #")[0].rstrip(), words)


def _words(line: str) -> tuple[str, ...]:
    """The words of a shell line; none where it is not one."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return ()
    while words and _SETTING.match(words[0]):
        words.pop(0)
    return tuple(words)
