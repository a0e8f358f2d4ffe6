"""The arrows between the packages point one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

FORBIDDEN = {
    "results": {"loadgen", "workers", "hydra", "omegaconf", "ray"},
    "workers": {"loadgen", "results", "hydra", "omegaconf", "pyarrow"},
    "loadgen": {"pyarrow", "duckdb", "polars", "pandas"},
}


def imported(source: str) -> set[str]:
    """Top-level packages that `source` imports anywhere in it, by statement or by name."""
    packages: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                packages |= {alias.name.split(".")[0] for alias in names}
            case ast.ImportFrom(module=str(module), level=0):
                packages.add(module.split(".")[0])
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                packages.add(name.split(".")[0])
    return packages


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_only_what_is_downstream_of_it(package: str) -> None:
    modules = sorted((REPOSITORY / package).rglob("*.py*"))
    sources = [module for module in modules if module.suffix in (".py", ".pyi")]
    assert sources
    found = {
        f"{source.relative_to(REPOSITORY)} imports {name}"
        for source in sources
        for name in imported(source.read_text()) & FORBIDDEN[package]
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "import pyarrow",
        "import numpy, pyarrow.parquet as pq",
        "from pyarrow.fs import FileSystem",
        "def late():\n    import pyarrow",
        "import importlib\nimportlib.import_module('pyarrow.fs')",
        "__import__('pyarrow')",
    ],
)
def test_every_way_to_import_is_seen(source: str) -> None:
    assert "pyarrow" in imported(source)
