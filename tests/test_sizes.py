"""No file over 350 lines, no function over 60, no line over 130 characters, in Python and in C++."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MOST_LINES_OF_A_FILE = 350
MOST_LINES_OF_A_FUNCTION = 60
MOST_CHARACTERS_OF_A_LINE = 130

NO_FUNCTION = re.compile(r"^\s*(?:namespace|class|struct|union|enum|extern)\b|=\s*\{$")
"""How a block of C++ begins that is a scope, a type or a table."""

Sizes = Callable[[str], Iterator[tuple[str, int]]]


def files(ending: str) -> list[Path]:
    """Those that git tracks, or would."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", f"*{ending}"]
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for path in map(REPOSITORY.joinpath, names) if path.exists()]


def python_functions(source: str) -> Iterator[tuple[str, int]]:
    """Each function with its number of lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def core_functions(source: str) -> Iterator[tuple[str, int]]:
    """Each block, from the first line of what it belongs to, as clang-format indents it: a function is one, and so is a loop."""
    lines = source.splitlines()
    for last, line in enumerate(lines):
        if closes := re.match(r"^( *)\}(?!  // namespace)", line):
            depth = len(closes[1])
            first = last - 1
            while first > 0 and (not lines[first].strip() or _depth(lines[first]) > depth or lines[first].lstrip()[0] in "#})"):
                first -= 1
            if not NO_FUNCTION.search(lines[first]):
                yield lines[first].strip(), last - first + 1


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def too_large(path: Path, functions: Sizes) -> Iterator[str]:
    """What is over one of the limits."""
    source, name = path.read_text(), path.relative_to(REPOSITORY)
    lines = source.splitlines()
    if len(lines) > MOST_LINES_OF_A_FILE:
        yield f"{name}: {len(lines)} lines"
    for number, line in enumerate(lines, 1):
        if len(line) > MOST_CHARACTERS_OF_A_LINE:
            yield f"{name}:{number}: {len(line)} characters"
    for function, length in functions(source):
        if length > MOST_LINES_OF_A_FUNCTION:
            yield f"{name}: {function}: {length} lines"


@pytest.mark.parametrize(("ending", "functions"), [(".py", python_functions), (".cpp", core_functions), (".hpp", core_functions)])
def test_no_file_no_function_and_no_line_is_too_long(ending: str, functions: Sizes) -> None:
    found = files(ending)
    assert len(found) > 50
    assert [problem for path in found for problem in too_large(path, functions)] == []


def test_functions_are_measured_whatever_stands_before_and_in_them() -> None:
    python = "class A:\n    @property\n    def b(self) -> int:\n        if 1:\n            pass\n        return 1\n"
    assert list(python_functions(python)) == [("b", 4)]
    core = "class B {\n  int c(int d,\n        int e) {\n    if (d) {\n      f();\n    }\n\n    return 1;\n  }\n};\n"
    assert list(core_functions(core)) == [("if (d) {", 3), ("int c(int d,", 8)]
