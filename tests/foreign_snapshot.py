"""Snapshots that no seed has made: random bytes, with holes."""

from __future__ import annotations

import dataclasses
import re
import struct
from pathlib import Path
from random import Random

from tests import specs
from workers.spec import RunSpec

PIECE = 4 * 4096


def write(path: Path, region_bytes: int) -> Path:
    """Every other piece of it is a hole; the first words of the others are zeros, too."""
    chance = Random(5)
    with path.open("wb") as file:
        for at in range(0, region_bytes, 2 * PIECE):
            file.seek(at + 64)
            file.write(chance.randbytes(PIECE - 64))
        file.truncate(region_bytes)
    return path


def on(spec: RunSpec, folder: Path, cache: str = "warm") -> RunSpec:
    """The run on such a snapshot, which is written to `folder`."""
    path = write(folder / "guest.mem", spec.memory.region_bytes)
    source = specs.source(name="file", file=str(path), contents="file", cache=cache, seed=spec.source.seed)
    return dataclasses.replace(spec, source=source, verify="word")


def word(path: Path, at: int) -> int:
    """What a snapshot has there."""
    found: int = struct.unpack_from("=Q", path.read_bytes(), at)[0]
    return found


def named_word(path: Path, page_bytes: int, first_wrong: str) -> tuple[int, int]:
    """Found and expected of a wrong word in words, the latter that of the snapshot."""
    match = re.search(r"page (\d+), word (\d+): found 0x([0-9a-f]{16}), expected 0x([0-9a-f]{16})", first_wrong)
    assert match, first_wrong
    found, expected = (int(match[number], 16) for number in (3, 4))
    assert expected == word(path, int(match[1]) * page_bytes + int(match[2]) * 8)
    return found, expected
