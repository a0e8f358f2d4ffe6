"""Numbers as text: how many digits, which unit, and a dash for null."""

from __future__ import annotations

from typing import Any


def cell(value: Any, digits: int = 5) -> str:
    """One value: "-" for null, so many significant digits, no exponent for ordinary sizes."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if 10 ** (digits - 1) <= abs(value) < 1e15 else f"{value:.{digits}g}"
    return str(value)


def decimals(value: float | None, digits: int) -> str:
    """A number with so many decimals."""
    return "-" if value is None else f"{value:.{digits}f}"


def thousand(per_s: float | None) -> str:
    """A rate in thousands: one decimal below 1000."""
    return "-" if per_s is None else _short(per_s / 1e3)


def us(ns: float | None) -> str:
    """A time in microseconds: one decimal below 1000."""
    return "-" if ns is None else _short(ns / 1e3)


def ms(ns: float | None) -> str:
    """Nanoseconds as milliseconds."""
    return decimals(None if ns is None else ns / 1e6, 2)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 999.95 else f"{value:.1f}"
