"""Every question of the README's guide is asked of a real sweep, and prints what the README shows, but for the numbers."""

from __future__ import annotations

import re

import pytest

from tests.e2e.conftest import Sweep
from tests.e2e.guide import README, SECTION, Question, answered, questions

GUIDE = questions(README.read_text())


def words(printed: str) -> list[str]:
    """The first row of words of a table: its heads."""
    first = next(line for line in printed.splitlines() if re.search(r"[a-z]", line) and re.search(r"[|│]", line))
    return [cell.strip() for cell in re.split(r"[|│]", first.strip("|│ "))]


def test_the_guide_asks_five_questions() -> None:
    assert len(GUIDE) == 5
    assert {question.language for question in GUIDE} == {"sh", "sql"}


@pytest.mark.parametrize("question", GUIDE, ids=lambda question: question.title)
def test_a_question_prints_the_table_that_the_readme_shows(question: Question, sweep: Sweep) -> None:
    printed = question.ask(sweep.folder)
    strip = [head for head in words(question.printed) if not head.isdigit()]
    assert [head for head in words(printed) if not head.isdigit()] == strip
    for strategy in ("uffd_wait", "no_slow_gup"):
        assert strategy in question.printed + question.asked
        assert strategy in printed + question.asked


def test_the_answers_can_be_written_anew(sweep: Sweep) -> None:
    last = README.read_text().partition(SECTION)[2].partition(f"### {GUIDE[-1].title}")
    text = SECTION + "\n\n" + "".join(last[1:])
    [anew] = questions(answered(text, sweep.folder))
    assert anew.asked == GUIDE[-1].asked
    assert anew.printed != GUIDE[-1].printed and words(anew.printed) == words(GUIDE[-1].printed)
