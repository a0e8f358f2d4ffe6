"""Where a remote source listens, as text: `HOST:PORT`, an IPv6 number in brackets."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"(?:\[(?P<number>[0-9a-fA-F:.%\w]+)\]|(?P<name>[^\s:\[\]]+)):(?P<port>\d{1,5})")


def split_address(text: str) -> tuple[str, int]:
    """Host and port. Raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise ValueError(f"'{text}' is no HOST:PORT, for example 10.0.0.2:7000 or [fd00::2]:7000")
    return found["number"] or found["name"], int(found["port"])


def join_address(host: str, port: int) -> str:
    """The reverse."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
