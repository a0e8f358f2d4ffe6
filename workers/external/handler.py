"""The process of a fault handler that is not ours: started for a guest or for all guests of a host, or found at its socket."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from workers.external.printed import first_line, last_lines
from workers.external.processes import is_socket, listens_at
from workers.protocol.socket_folder import LONGEST_PATH, SocketFolder
from workers.spec import ExternalSpec

LOOK_S = 0.02
END_S = 2.0
"""How long a handler may take to end after SIGTERM."""
SHARED_PREFIX = "uffd-loadgen-handler-"


class HandlerError(RuntimeError):
    """The handler cannot be used; the text says why, in one line."""


class Handler:
    """One that listens at `path`. `close` ends what was started; idempotent."""

    def __init__(self, asked: ExternalSpec, snapshot: str, run_id: str, timeout_s: float) -> None:
        self.path, self._version = asked.socket, ""
        self._folder: Path | None = None
        self._own: SocketFolder | None = None
        self._shared: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if asked.socket:
                self._find(asked.socket, timeout_s)
            elif asked.shared:
                self._join(asked.command, snapshot, run_id, timeout_s)
            else:
                self._own = SocketFolder()
                self._start(self._own.path, asked.command, snapshot, timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> str:
        """The first line that it has printed; empty for one that was found."""
        if self._folder is not None:
            self._version = first_line(self._folder / "stdout") or self._version
        return self._version

    def ended(self) -> str:
        """How the process that was started has ended; empty while it runs, and for one that was found."""
        status = None if self._process is None else self._process.poll()
        if status is None:
            return ""
        return f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with exit status {status}"

    def explained(self, reason: str) -> str:
        """Why a run was stopped, with what is known here of its handler."""
        if not reason:
            return ""
        ended = self.ended()
        return (f"the handler {ended} while it served" if ended else reason) + self._tail()

    def close(self) -> None:
        """SIGTERM to its process group, SIGKILL to what is left after a while."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._own is not None:
            self._own.remove()
        if self._shared is not None:
            shutil.rmtree(self._shared, ignore_errors=True)
        self._own = self._shared = None

    def _find(self, path: str, timeout_s: float) -> None:
        """One in another network namespace cannot be seen to listen: at its socket, connecting decides."""
        if _wait(lambda: listens_at(path), timeout_s) or is_socket(path):
            return
        remedy = "a file that is no socket is there" if os.path.exists(path) else "start the handler there"
        raise HandlerError(f"nothing listened at page_server.socket={path} within {timeout_s:g} s: {remedy}")

    def _start(self, folder: Path, command: str, snapshot: str, timeout_s: float) -> None:
        self._folder, self.path = folder, str(folder / "handler.sock")
        if len(os.fsencode(self.path)) > LONGEST_PATH:
            raise HandlerError(f"the path of the socket is longer than {LONGEST_PATH} bytes: use a shorter TMPDIR: {self.path}")
        words = [word.replace("{socket}", self.path).replace("{snapshot}", snapshot) for word in shlex.split(command)]
        with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
            try:
                self._process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, process_group=0, env=environment()
                )
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise HandlerError(f"page_server.command cannot be started: {words[0]}: {why}") from None
        if not _wait(lambda: bool(self.ended()) or listens_at(self.path), timeout_s):
            raise HandlerError(f"the handler did not listen at {{socket}} within {timeout_s:g} s: {words[0]}{self._tail()}")
        if ended := self.ended():
            remedy = "" if self._process.returncode else ": it has to stay in the foreground"
            raise HandlerError(f"the handler {ended} before it listened at {{socket}}: {words[0]}{remedy}{self._tail()}")

    def _join(self, command: str, snapshot: str, run_id: str, timeout_s: float) -> None:
        """Whichever guest of a host comes first starts it; the others find it by the run's id."""
        folder = Path(tempfile.gettempdir()) / f"{SHARED_PREFIX}{run_id}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            self._follow(folder, timeout_s)
            return
        self._shared = folder
        try:
            self._start(folder, command, snapshot, timeout_s)
        except HandlerError as error:
            (folder / "failed").write_text(str(error))
            time.sleep(2 * LOOK_S)  # the others read it before the folder goes
            raise

    def _follow(self, folder: Path, timeout_s: float) -> None:
        self._folder, self.path = folder, str(folder / "handler.sock")
        failed = folder / "failed"
        if not _wait(lambda: failed.exists() or listens_at(self.path), timeout_s):
            raise HandlerError(f"the shared handler did not listen at {{socket}} within {timeout_s:g} s")
        with suppress(OSError):
            raise HandlerError(failed.read_text())

    def _tail(self) -> str:
        """The last lines of its stderr, to be put behind a reason."""
        said = "" if self._folder is None else last_lines(self._folder / "stderr")
        return f"; its stderr: {said}" if said else ""


def environment() -> dict[str, str]:
    """A handler's: `loadgen-serve` is found beside this interpreter, also where its environment is not activated."""
    own = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join(filter(None, (os.environ.get("PATH", os.defpath), own)))}


def _wait(done: Callable[[], bool], timeout_s: float) -> bool:
    """Whether `done()` came true within the time."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    with suppress(ProcessLookupError):  # the rest of its group, too
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
