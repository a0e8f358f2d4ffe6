"""What the driver has changed on this host for its runs: swap, kept by a keeper process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

from workers.spec import NO_SWAP, SwapSpec

UNDO_TIMEOUT_S = 90.0


class HostChangeError(RuntimeError):
    """The host refused a change; the text has the fix."""


class Refused(Exception):
    """The keeper could not make a change; the text has the reason."""


class Keeper:
    """A keeper process with a change it has made; `undo` takes it back and waits until that is done. Raises Refused."""

    def __init__(self, change: str, *, size_bytes: int = 0, folder: str = "") -> None:
        # A session of its own: Ctrl-C reaches the driver's processes, and this one goes by its pipe alone. It outlives the
        # driver's temporary folder.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadgen.host.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={key: value for key, value in os.environ.items() if key != "TMPDIR"},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # it ended at once: its answer is missing too
            self._process.stdin.write(json.dumps({"change": change, "size_bytes": size_bytes, "folder": folder}) + "\n")
            self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the keeper ended without a word"}')
        if "error" in answer:
            self.undo()
            raise Refused(answer["error"])

    def undo(self) -> None:
        """As the end of the driver would do it."""
        self._process.communicate(timeout=UNDO_TIMEOUT_S)


class HostChanges:
    """At most one swap space at a time, used again by the next run that needs no more. `close` undoes it."""

    def __init__(self) -> None:
        self._swap = NO_SWAP
        self._keeper: Keeper | None = None

    def keep(self, swap: SwapSpec) -> None:
        """Have `swap` set up. Raises HostChangeError."""
        now = self._swap
        if (now.kind, now.folder) == (swap.kind, swap.folder) and now.size_bytes >= swap.size_bytes:
            return
        self.close()
        if swap.kind == "none":
            return
        try:
            self._keeper, self._swap = Keeper(swap.kind, size_bytes=swap.size_bytes, folder=swap.folder), swap
        except Refused as refused:
            raise HostChangeError(
                f"swap={swap.kind} of {swap.size_bytes >> 20} MiB cannot be set up: {refused}; {REMEDIES[swap.kind]}"
            ) from None

    def close(self) -> None:
        """Undo what was set up and wait until it is done; idempotent."""
        keeper, self._keeper, self._swap = self._keeper, None, NO_SWAP
        if keeper is not None:
            keeper.undo()


REMEDIES = {
    "zram": "use swap=file, or load the module (modprobe zram)",
    "file": "use swap=zram, or a swap.folder on a file system that takes swap files (ext4, xfs)",
}
"""What to do when a kind of swap is refused."""
