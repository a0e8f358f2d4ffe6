"""Memory of the host that only movable pages may use, as a host that gives memory away is set up: it can be taken offline at any
time, where other memory refuses once a page of the kernel's own is in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

BLOCKS = Path("/sys/devices/system/memory")
PUT_BACK_S = 20.0


@contextlib.contextmanager
def movable_memory(blocks: int) -> Iterator[bool]:
    """So many memory blocks, or as many as go offline, are movable inside; the kernel gives them to guests first. Whether it is
    one at least: a kernel without memory hot-unplug has none.

    Raises AssertionError when one cannot be put back.
    """
    made: list[Path] = []
    try:
        for state in sorted(BLOCKS.glob("memory*/state")):
            taken = "Movable" in state.with_name("valid_zones").read_text()
            if len(made) < blocks and not taken and _set(state, "offline"):
                made.append(state)
        for state in made:  # all at once: the movable memory then is one stretch, where they lie side by side
            assert _set(state, "online_movable"), state
        yield bool(made)
    finally:
        for state in made:
            _put_back(state)


def all_online() -> bool:
    """Whether no block of the host is offline."""
    return {state.read_text() for state in BLOCKS.glob("memory*/state")} <= {"online\n"}


def _put_back(state: Path) -> None:
    deadline = time.monotonic() + PUT_BACK_S
    while state.read_text() != "offline\n" and not _set(state, "offline"):  # a page of it is held for a moment
        assert time.monotonic() < deadline, f"cannot be taken offline: {state}"
        time.sleep(0.1)
    assert _set(state, "online_kernel"), state


def _set(state: Path, to: str) -> bool:
    """Whether the kernel did it."""
    try:
        state.write_text(to)
    except OSError:
        return False
    return True
