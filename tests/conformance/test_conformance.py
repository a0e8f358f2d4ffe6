"""Every row of the conformance table on the real kernel, and every cell again with races."""

from __future__ import annotations

import itertools
from operator import attrgetter
from pathlib import Path

import pytest

from loadgen.host.probe import probe
from loadgen.plan.legality import judge
from tests.conformance.run import PAGES, expected, found, run_cell
from tests.conformance.table import ELSEWHERE, MEMORIES, STATES, STRATEGIES, Row, rows
from tools.conformance import lines
from workers.registry import strategy_entries, strategy_entry

pytestmark = pytest.mark.usefixtures("zram")
ROWS = list(rows())
ROW_ID = attrgetter("id")
RACED = [row for row in ROWS if row.state != "hit" and strategy_entry(row.strategy.partition(",")[0])["userfaultfd"]]


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize("row", ROWS, ids=ROW_ID)
def test_at_one_vcpu_the_counts_are_exact(row: Row) -> None:
    assert found(run_cell(row.strategy, row.memory, row.state)) == expected(row)


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize("row", RACED, ids=ROW_ID)
def test_with_races_the_identities_hold_and_no_word_is_wrong(row: Row) -> None:
    around = 4 if row.memory != "hugetlb" else 2
    ran = run_cell(row.strategy, row.memory, row.state, vcpus=4, readers=3, fault_around_pages=around)
    assert (ran.stop_reason, ran.unprepared, ran.wrong_words, ran.broken) == ("", 0, 0, [])
    assert +ran.page_states == {row.ends: PAGES[row.memory]}
    assert ran.refused == (PAGES[row.memory] if row.state.startswith("poisoned") else 0)
    if row.state.startswith("poisoned"):
        assert ran.vcpus["memory_errors"] == 4 * PAGES[row.memory]  # each vCPU's own access is one


def test_what_the_table_does_not_have_is_refused_with_a_reason() -> None:
    host, has = probe(), {(row.strategy, row.memory, row.state) for row in ROWS}
    for cell in itertools.product(STRATEGIES, MEMORIES, STATES):
        strategy, memory, state = cell
        verdict = judge(strategy_entry(strategy.partition(",")[0]), memory, state.split()[0], host)
        assert verdict.allowed == (cell in has), cell
        assert verdict.allowed or verdict.reason


def test_every_strategy_is_in_the_table() -> None:
    assert {*(strategy.partition(",")[0] for strategy in STRATEGIES), *ELSEWHERE} == set(strategy_entries())


def test_the_documented_table_is_current() -> None:
    documented = Path(__file__).parents[2] / "docs" / "conformance.md"
    assert documented.read_text() == "\n".join(lines()) + "\n", "run `python -m tools.conformance > docs/conformance.md`"
