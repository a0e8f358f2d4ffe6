"""Every relaxed atomic of the core has its reason: beside it, or in the file where an alias of the order is used."""

from __future__ import annotations

import re
from pathlib import Path

NATIVE = Path(__file__).resolve().parents[2] / "workers" / "native"
LINES_ABOVE = 3
ALIAS = re.compile(r"\b(\w+)\s*=\s*(?:std::)?memory_order(?:_|::)relaxed\b")
REASON = "// relaxed: "


def without_reason(text: str) -> list[int]:
    """Numbers of the lines with `memory_order_relaxed` and no comment "relaxed: ..." on them or just above."""
    lines = text.splitlines()
    return [
        number
        for number, line in enumerate(lines, 1)
        if "memory_order_relaxed" in line and not any(REASON in near for near in lines[max(0, number - 1 - LINES_ABOVE) : number])
    ]


def aliases(texts: list[str]) -> set[str]:
    """Names that stand for the order."""
    return {name for text in texts for name in ALIAS.findall(text)}


def aliased_without_reason(text: str, names: set[str]) -> list[int]:
    """Numbers of the lines that use one of `names`, in a file with no comment "relaxed: ...": one serves all of its uses."""
    if REASON in text:
        return []
    return [number for number, line in enumerate(text.splitlines(), 1) if names & set(re.findall(r"\w+", line))]


def test_every_relaxed_atomic_has_a_reason() -> None:
    sources = sorted(NATIVE.rglob("*.[ch]pp"))
    assert any("memory_order_relaxed" in source.read_text() for source in sources)
    assert {str(source.relative_to(NATIVE)): bare for source in sources if (bare := without_reason(source.read_text()))} == {}


def test_every_file_that_uses_an_alias_of_the_order_has_a_reason() -> None:
    texts = {str(source.relative_to(NATIVE)): source.read_text() for source in sorted(NATIVE.rglob("*.[ch]pp"))}
    names = aliases(list(texts.values()))
    assert "kRelaxed" in names
    assert {name: bare for name, text in texts.items() if (bare := aliased_without_reason(text, names))} == {}


def test_a_relaxed_atomic_without_a_reason_is_found() -> None:
    assert without_reason("// relaxed: a count\nx.load(std::memory_order_relaxed);") == []
    assert without_reason("// a count\nx.load(std::memory_order_relaxed);") == [2]


def test_an_alias_used_without_a_reason_is_found() -> None:
    names = aliases(["constexpr auto kLoose = std::memory_order_relaxed;"])
    assert aliased_without_reason("a();\nx.load(kLoose);", names) == [2]
    assert aliased_without_reason("// relaxed: a count\na();\nx.load(kLoose);", names) == []
