"""Texts, and names of tests, name actors by their role, and give no process, thread or file the mind of a person."""

from __future__ import annotations

import re

from tests.test_sizes import REPOSITORY, files

AVOIDED = (
    *("somebody", "nobody", "anybody", "everybody", "someone", "everyone", "whoever"),
    *("knows", "wants", "told", "tells", "in hand", "in vain", "gets on"),
)
ENDINGS = (".py", ".pyi", ".cpp", ".hpp", ".md", ".yaml", ".txt", "Makefile")


def test_no_text_has_a_word_that_is_avoided() -> None:
    words = "|".join(AVOIDED).replace(" ", "[ _]")
    avoided = re.compile(rf"(?<![a-z])({words})(?![a-z])", re.IGNORECASE)
    texts = [path for ending in ENDINGS for path in files(ending)]
    assert len(texts) > 500
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in texts
        if str(path.relative_to(REPOSITORY)) != "tests/test_words.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if avoided.search(line)
    ]
    assert found == []
