"""What the driver has changed on this host for its runs: swap, kept by a keeper process."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress

from workers.spec import SwapSpec

UNDO_TIMEOUT_S = 90.0


class HostChangeError(RuntimeError):
    """The host refused; says what, and what to do."""


class HostChanges:
    """At most one swap space at a time, used again by the next run that needs no more. `close` undoes it."""

    def __init__(self) -> None:
        self._swap = SwapSpec()
        self._keeper: subprocess.Popen[str] | None = None

    def keep(self, swap: SwapSpec) -> None:
        """Have `swap` set up. Raises HostChangeError."""
        now = self._swap
        if (now.kind, now.folder) == (swap.kind, swap.folder) and now.size_bytes >= swap.size_bytes:
            return
        self.close()
        if swap.kind == "none":
            return
        # A session of its own: Ctrl-C reaches the driver's processes, and this one goes by its pipe alone.
        keeper = subprocess.Popen(
            [sys.executable, "-m", "loadgen.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._keeper, self._swap = keeper, swap
        assert keeper.stdin is not None and keeper.stdout is not None
        with suppress(BrokenPipeError):  # it ended at once: its answer is missing too
            keeper.stdin.write(json.dumps({"swap": swap.kind, "size_bytes": swap.size_bytes, "folder": swap.folder}) + "\n")
            keeper.stdin.flush()
        answer = json.loads(keeper.stdout.readline() or '{"error": "the keeper ended without a word"}')
        if "error" in answer:
            self.close()
            raise HostChangeError(
                f"swap={swap.kind} of {swap.size_bytes >> 20} MiB cannot be set up: {answer['error']}; {REMEDIES[swap.kind]}"
            )

    def close(self) -> None:
        """Undo what was set up and wait until it is done; idempotent."""
        keeper, self._keeper, self._swap = self._keeper, None, SwapSpec()
        if keeper is None:
            return
        keeper.communicate(timeout=UNDO_TIMEOUT_S)


REMEDIES = {
    "zram": "use swap=file, or load the module (modprobe zram)",
    "file": "use swap=zram, or a swap.folder on a file system that takes swap files (ext4, xfs)",
}
"""What to do when a kind of swap is refused."""
