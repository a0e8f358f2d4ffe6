"""A page server in a process of its own, as Ray keeps it, so that it can be killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["workers.page_server"])


def _answer(calls: Connection, folder: str) -> None:
    from workers.page_server import PageServer

    tempfile.tempdir = folder  # what a killed one leaves goes with it
    server = PageServer()
    while True:
        try:
            method, arguments = calls.recv()
        except EOFError:
            return
        try:
            calls.send((True, getattr(server, method)(*arguments)))
        except Exception as error:
            calls.send((False, error))


class ServerProcess:
    """`call` a method of the page server there; `kill` it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="uls-")
        self._calls, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_answer, args=(theirs, self._folder.name), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """What the method returns, or raises. EOFError when the process was killed meanwhile."""
        self._calls.send((method, arguments))
        good, value = self._calls.recv()
        if not good:
            raise value
        return value

    def kill(self) -> None:
        """As the kernel's OOM killer does it; returns when the process is gone."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._process.close()
        self._calls.close()
        self._folder.cleanup()
