"""Tables are fitted into a width: nothing is lost, nothing is wider than its words force it to be."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.tables.console import print_line, print_notes, print_table
from results.tables.layout import Table, constant, fitted, is_number

RATES = Table(
    ("strategy", "fault mix", "memory type", "vcpus", "kpages/s", "p50 us"),
    [
        (strategy, mix, "shmem", vcpus, f"{rate} ({rate}..{rate + 1})", "7.5")
        for mix in ("absent", "minor")
        for vcpus, rate in (("1", 99), ("16", 1234))
        for strategy in ("uffd_wait", "no_uffd_wait")
    ],
    keys=4,
)


def test_what_does_not_vary_stands_in_one_line_above() -> None:
    lines = list(fitted(RATES, 100))
    assert lines[:2] == ["all rows: memory type shmem", ""]
    assert not any("shmem" in line for line in lines[1:])


def test_a_measurement_that_does_not_vary_stands_there_only_where_the_table_is_too_wide() -> None:
    needed = max(map(len, list(fitted(RATES, 100))[2:]))
    assert next(fitted(RATES, needed)) == "all rows: memory type shmem"
    assert next(fitted(RATES, needed - 1)) == "all rows: memory type shmem, p50 us 7.5"


def test_a_single_row_keeps_its_measurements() -> None:
    said, left = constant(Table(("strategy", "vcpus", "kpages/s"), [("uffd_wait", "4", "7")], keys=2))
    assert (said, left.heads) == ("vcpus 4", ["strategy", "kpages/s"])


def test_text_is_left_aligned_and_numbers_are_right_aligned() -> None:
    assert list(fitted(RATES.only([0, 1, 3, 4]), 100))[:5] == [
        "              fault",
        "strategy      mix     vcpus           kpages/s",
        "------------  ------  -----  -----------------",
        "uffd_wait     absent      1       99 (99..100)",
        "no_uffd_wait  absent      1       99 (99..100)",
    ]


def test_where_it_is_too_narrow_columns_become_headings_and_blocks_stay_aligned() -> None:
    lines = list(fitted(RATES, 45))
    assert [line for line in lines if line.endswith(":")] == ["fault mix absent:", "fault mix minor:"]
    assert len({line for line in lines if line.startswith("---")}) == 1
    assert max(map(len, lines)) <= 45


def test_what_still_does_not_fit_follows_below_beside_the_same_first_column() -> None:
    wide = Table(
        ("strategy", *(f"column{number}" for number in range(9))),
        [(f"s{row}", *"123456789") for row in "ab"] + [("s", *"987654321")],
    )
    lines = list(fitted(wide, 40))
    assert max(map(len, lines)) <= 40
    assert sum(line.startswith("strategy") for line in lines) == 3
    assert all(sum(head in line.split() for line in lines) == 1 for head in wide.heads[1:])


def test_long_text_is_wrapped_and_long_words_are_not_cropped() -> None:
    reason = "a reason of many words " * 6 + "/a/path/that/is/longer/than/the/width/of/the/whole/table/and/stays/in/one/piece"
    lines = list(fitted(Table(("strategy", "reason"), [("null", reason), ("eager", "none")]), 60))
    assert any(line.strip().endswith("stays/in/one/piece") for line in lines)
    assert " ".join(line[8:].strip() for line in lines[2:-1]) == reason
    assert max(map(len, lines[2:-2])) <= 60


def test_a_wide_table_is_in_one_piece_with_every_column() -> None:
    lines = list(fitted(RATES, None))
    assert len(lines) == 3 + len(RATES.rows)
    assert lines[-1].split() == ["no_uffd_wait", "minor", "shmem", "16", "1234", "(1234..1235)", "7.5"]


@pytest.mark.parametrize("text", ["1", "-", "2.5 (1..3) ?", "+1.2%", "1.5 times", "99%", "4 MiB", "3.4 (2..5) !", "1 (1..2) ="])
def test_figures_of_every_kind_are_numbers(text: str) -> None:
    assert is_number(text)


@pytest.mark.parametrize("text", ["uffd_wait", "2 of 3", "resume 50%", "0,1", "inconclusive"])
def test_words_are_not(text: str) -> None:
    assert not is_number(text)


CELL = st.text("abcxyz_019.- ", max_size=12).map(str.strip)


ROWS = st.integers(1, 7).flatmap(
    lambda n: st.tuples(st.lists(st.lists(CELL, min_size=n, max_size=n), max_size=6), st.integers(1, n))
)


@given(ROWS, st.integers(40, 100))
def test_no_cell_is_lost_and_no_line_is_wider_than_its_first_columns_allow(
    cells: tuple[list[list[str]], int], width: int
) -> None:
    rows, keys = cells
    table = Table([f"head{number}" for number in range(len(rows[0]) if rows else keys)], rows, keys)
    text = list(fitted(table, width))
    words = " ".join(text)
    assert all(word in words for row in rows for cell in row for word in cell.split())
    assert max(map(len, text), default=0) <= max(width, 12 * keys + 2 * keys + 14)


def test_printing_pads_to_no_width_and_notes_are_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setenv("COLUMNS", "250")
    print_table(RATES, out)
    print_notes(["a note of many words " * 12], out)
    print_line("a line of many words " * 12, out)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    print_table(RATES, out)
    assert max(map(len, out.getvalue().splitlines())) <= 80
