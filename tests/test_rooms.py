"""Rooms import one way: within each package, and within the core, a room uses only the rooms before it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NATIVE = REPOSITORY / "workers" / "native"

LOADGEN = (
    *({"errors"}, {"host"}, {"plan"}, {"config", "cluster"}, {"run"}, {"show"}, {"sweep", "serve"}, {"app", "doctor"}),
)  # fmt: skip
RESULTS = (
    *({"schema", "figures"}, {"derive"}, {"store"}, {"statistics"}, {"summaries"}, {"verify", "tables"}, {"questions"}),
    *({"report"}, {"commands"}, {"app"}),
)
CORE = (
    *({"kernel"}, {"guest"}, {"source", "resolve"}, {"server", "vcpu"}, {"kvm", "disturb"}, {"vmm"}, {"binding"}),
)  # fmt: skip
"""Rooms from the ground up; those of one set do not use each other."""

Arrow = tuple[str, str]
"""A file and one that it uses, each by its path within the package."""


def python_arrows(package: str) -> list[Arrow]:
    """Imports between the modules of a package, wherever in a module they stand."""
    root = REPOSITORY / package
    modules = {_dotted(path.relative_to(root)): path.relative_to(root) for path in root.rglob("*.py")}
    return [
        (str(module), str(modules[name]))
        for module in modules.values()
        for name in imported(package, (root / module).read_text(), modules)
    ]


def imported(package: str, source: str, modules: Mapping[str, object]) -> set[str]:
    """Dotted names, without the package's own, of the modules that `source` imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), names=names, level=0):
                found |= {module, *(f"{module}.{alias.name}" for alias in names)}
    inside = {name.removeprefix(f"{package}.") for name in found if name.startswith(f"{package}.")}
    return inside & set(modules)


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def core_arrows() -> list[Arrow]:
    """Includes between the files of the core. A header and the source file beside it are one file."""
    return [
        (_unit(str(path.relative_to(NATIVE))), _unit(name))
        for path in sorted(NATIVE.rglob("*.[ch]pp"))
        for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)
    ]


def _unit(path: str) -> str:
    return path.rsplit(".", 1)[0]


def room_of(path: str) -> str:
    """The room a file is in; a file at the top of the package is a room by itself."""
    return path.split("/", 1)[0].removesuffix(".py")


def against(arrows: Iterable[Arrow], floors: Sequence[set[str]]) -> Iterator[str]:
    """Arrows that point up, or to another room of the same floor."""
    floor_of = {room: number for number, rooms in enumerate(floors) for room in rooms}
    for source, target in arrows:
        here, there = room_of(source), room_of(target)
        if there != "__init__" and here != there and floor_of[there] >= floor_of[here]:
            yield f"{source} uses {target}"


def circle(arrows: Iterable[Arrow]) -> list[str]:
    """A circle of files, empty when there is none."""
    graph: dict[str, set[str]] = {}
    for source, target in arrows:
        if source != target:
            graph.setdefault(source, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize(("package", "floors"), [("loadgen", LOADGEN), ("results", RESULTS)])
def test_a_room_imports_only_rooms_below_it_and_no_circle_closes(package: str, floors: Sequence[set[str]]) -> None:
    arrows = python_arrows(package)
    assert len(arrows) > 50
    assert list(against(arrows, floors)) == []
    assert circle(arrows) == []


def test_a_room_of_the_core_includes_only_rooms_below_it_and_no_circle_closes() -> None:
    arrows = core_arrows()
    assert len(arrows) > 100
    assert list(against(arrows, CORE)) == []
    assert circle(arrows) == []


def test_every_folder_is_a_room_with_a_floor() -> None:
    for root, floors in ((REPOSITORY / "loadgen", LOADGEN), (REPOSITORY / "results", RESULTS), (NATIVE, CORE)):
        folders = {one.name for one in root.iterdir() if one.is_dir() and one.name != "__pycache__"}
        assert folders <= set().union(*floors)


def test_an_arrow_up_an_arrow_sideways_and_a_circle_are_found() -> None:
    floors = ({"a"}, {"b", "c"})
    assert list(against([("a/x.py", "b/y.py"), ("b/y.py", "c/z.py"), ("b/y.py", "a/x.py")], floors)) == [
        "a/x.py uses b/y.py",
        "b/y.py uses c/z.py",
    ]
    assert set(circle([("a/x", "a/y"), ("a/y", "a/z"), ("a/z", "a/x")])) == {"a/x", "a/y", "a/z"}
    assert imported("p", "def late():\n    from p.q import r\n    import p.s", {"q": 0, "q.r": 0, "s": 0}) == {"q", "q.r", "s"}
