"""What was printed, as a test reads it."""

from __future__ import annotations

from results.tables.layout import Table


def records(table: Table) -> list[dict[str, str]]:
    """The rows of a table by their heads."""
    return [dict(zip(table.heads, row, strict=True)) for row in table.rows]


def lines_of(text: str, first_word: str) -> list[list[str]]:
    """The cells of the printed lines that begin with a word; cells stand two spaces apart."""
    found = [line for line in text.splitlines() if line.split()[:1] == [first_word]]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in found]


def unwrapped(text: str) -> str:
    """Printed lines as one, so that a sentence can be looked for."""
    return " ".join(text.split())
