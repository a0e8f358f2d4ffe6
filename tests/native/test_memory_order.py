"""Every relaxed atomic of the core has its reason beside it: arm64 reorders what x86-64 does not."""

from __future__ import annotations

from pathlib import Path

NATIVE = Path(__file__).resolve().parents[2] / "workers" / "native"
LINES_ABOVE = 3


def without_reason(text: str) -> list[int]:
    """Numbers of the lines with `memory_order_relaxed` and no comment "relaxed: ..." on them or just above."""
    lines = text.splitlines()
    return [
        number
        for number, line in enumerate(lines, 1)
        if "memory_order_relaxed" in line
        and not any("// relaxed: " in near for near in lines[max(0, number - 1 - LINES_ABOVE) : number])
    ]


def test_every_relaxed_atomic_has_a_reason() -> None:
    sources = sorted(NATIVE.rglob("*.[ch]pp"))
    assert any("memory_order_relaxed" in source.read_text() for source in sources)
    assert {str(source.relative_to(NATIVE)): bare for source in sources if (bare := without_reason(source.read_text()))} == {}


def test_a_relaxed_atomic_without_a_reason_is_found() -> None:
    assert without_reason("// relaxed: a count\nx.load(std::memory_order_relaxed);") == []
    assert without_reason("// a count\nx.load(std::memory_order_relaxed);") == [2]
