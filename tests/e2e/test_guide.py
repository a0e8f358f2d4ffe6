"""Every question of docs/analysis.md is asked of a real sweep and prints a table with the rows that the page shows."""

from __future__ import annotations

import re

import pytest

from tests.e2e.conftest import Sweep
from tools.guide import PAGE, Question, answered, questions

GUIDE = questions(PAGE.read_text())


def first_head(printed: str) -> set[str]:
    """The words of the first head of a table: of the line above its rule."""
    lines = printed.splitlines()
    rule = next(number for number, line in enumerate(lines) if re.fullmatch(r"[-|├─┼┤ ]{8,}", line))
    head = next(line for line in reversed(lines[:rule]) if re.search(r"[a-z]", line) and "varchar" not in line)
    return set(re.findall(r"[a-z_]+", re.split(r"[|│]|  ", head.strip(" |│"))[0]))


def test_the_guide_asks_five_questions() -> None:
    assert len(GUIDE) == 5
    assert {question.language for question in GUIDE} == {"sh", "sql"}


@pytest.mark.parametrize("question", GUIDE, ids=lambda question: question.title)
def test_a_question_prints_the_table_that_the_page_shows(question: Question, sweep: Sweep) -> None:
    printed = question.ask(sweep.folder)
    assert first_head(question.printed) <= set(re.findall(r"[a-z_]+", printed))
    for strategy in ("uffd_wait", "no_slow_gup"):
        assert strategy in question.printed + question.asked
        assert strategy in printed + question.asked


def test_the_answers_can_be_written_anew(sweep: Sweep) -> None:
    text = f"## {GUIDE[-1].title}" + PAGE.read_text().partition(f"## {GUIDE[-1].title}")[2]
    [anew] = questions(answered(text, sweep.folder))
    assert anew.asked == GUIDE[-1].asked
    assert anew.printed != GUIDE[-1].printed and first_head(anew.printed) == first_head(GUIDE[-1].printed)
