"""The process of a local actor. It imports nothing of the driver, so that it starts fast."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

STARTED = (-1, None, None)
"""The first answer of an actor's process."""


def answer(kind: type, calls: Connection, folder: str) -> None:
    """Answer calls of the methods of `kind`, each on a thread of its own."""
    tempfile.tempdir = folder
    actor, sending = kind(), threading.Lock()
    calls.send(STARTED)

    def call(number: int, method: str, arguments: Sequence[Any]) -> None:
        try:
            answer = (number, getattr(actor, method)(*arguments), None)
        except Exception as error:
            answer = (number, None, error)
        with sending:
            calls.send(answer)

    while True:
        try:
            number, method, arguments = calls.recv()
        except EOFError:
            os._exit(0)
        threading.Thread(target=call, args=(number, method, arguments), daemon=True).start()
