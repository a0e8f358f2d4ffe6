"""The questions there are, without importing what answers them (pyarrow, pandas): that takes a second."""

from __future__ import annotations

import pkgutil
from importlib.util import find_spec


def questions() -> tuple[str, ...]:
    """Names in alphabetical order, as `results.questions.names` has them."""
    found = find_spec("results.questions")
    folders = (found.submodule_search_locations if found else None) or ()
    return tuple(sorted(module.name for module in pkgutil.iter_modules(folders)))
