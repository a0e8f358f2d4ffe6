"""Peers of the page server's socket, played by a test."""

from __future__ import annotations

import json
import socket

from tests.wait import wait_for
from workers.protocol.acceptor import Acceptor

PAGE = 4096
REGION = 64 * PAGE


def entry(**changes: object) -> dict[str, object]:
    return {"base_host_virt_addr": 1 << 40, "size": REGION, "offset": 0, "page_size": PAGE, **changes}


def message(*entries: object) -> bytes:
    return json.dumps(list(entries)).encode()


def connect(acceptor: Acceptor) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.connect(acceptor.path)
    return peer


def refusal(acceptor: Acceptor, seconds: float = 5.0) -> str:
    return wait_for(lambda: acceptor.refused, "a refusal", seconds, between_s=0.005)[0]
