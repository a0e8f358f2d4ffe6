from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from workers.protocol.socket_folder import PREFIX, SocketFolder

HOLDER = """
import time
from workers.protocol.socket_folder import SocketFolder
folder = SocketFolder()
(folder.path / "page-server.sock").touch()
print(folder.path, flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_has_left_goes_with_the_next_and_what_is_in_use_stays(short_path: Path) -> None:
    starting = short_path / f"{PREFIX}starting"
    starting.mkdir()  # by a process that has not locked it yet
    ours = SocketFolder()
    (ours.path / "page-server.sock").touch()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], env={"TMPDIR": str(short_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        theirs = Path(holder.stdout.readline().strip())
        try:
            assert theirs.parent == short_path
            SocketFolder().remove()
            assert set(short_path.iterdir()) == {starting, ours.path, theirs}
        finally:
            holder.send_signal(signal.SIGKILL)
    SocketFolder().remove()
    assert set(short_path.iterdir()) == {starting, ours.path}
    ours.remove()
    ours.remove()
    assert not ours.path.exists()
