"""Makes `workers._native` importable.

The compiled module lies beside an installed package, or is found by the editable install's own finder. A checkout that is
not installed (as the current directory, or as a Ray working directory) has none. Its `workers/` then shadows the installed
package, and the compiled module of the installed package is used.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from pathlib import Path


def _borrow() -> None:
    if importlib.util.find_spec("workers._native") is not None:
        return
    try:
        installed = importlib.metadata.distribution("uffd-loadgen")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError("the native core of workers is not built: run `make .venv/.installed` or `pip install .`") from None
    for entry in installed.files or []:
        if entry.match("workers/_native*.so"):
            folder = str(Path(str(installed.locate_file(entry))).parent)
            sys.modules["workers"].__path__.append(folder)
            return
    raise ImportError("the installed uffd-loadgen has no native core: install it again with `pip install .`")


_borrow()
