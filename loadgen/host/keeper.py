"""The keeper: a process that changes this host for a driver, and undoes it when the driver is gone, however it went.

`python -m loadgen.host.keeper` reads one line of JSON,
`{"change": "zram" | "file" | "folder", "size_bytes": ..., "folder": ...}`, makes the change,
and answers with a line, `{"path": ...}` or `{"error": ...}`. Then it waits for the end of its standard input,
which comes with the end of the driver, SIGKILL included, and undoes the change.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import suppress
from pathlib import Path

from loadgen.host.session_folder import session_folder
from loadgen.host.swap_device import KINDS

OOM_SCORES = ("-1000", "0")
"""Never killed for lack of memory; and what any process may go back to, where the first needs CAP_SYS_RESOURCE."""
CHANGES = {**KINDS, "folder": session_folder}
"""By name: swap of a kind, and the folder of a session with all that lives in it."""


def main() -> int:
    """Entry point; exit status 0 once everything is as it was."""
    # A signal to the driver's group or session must not end the process that cleans up after it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    _outlive_lack_of_memory()
    asked = json.loads(sys.stdin.readline())
    try:
        with CHANGES[asked["change"]](asked["size_bytes"], asked["folder"]) as path:
            _answer({"path": path})
            sys.stdin.read()
    except OSError as error:
        _answer({"error": f"{error.strerror} ({error.filename})"})
        return 1
    return 0


def _outlive_lack_of_memory() -> None:
    for score in OOM_SCORES:
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(score)
            return


def _answer(answer: dict[str, str]) -> None:
    with suppress(OSError):  # the driver is gone already
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
