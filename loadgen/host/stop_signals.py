"""SIGTERM and SIGHUP end a command as Ctrl-C does: what was measured is stored, what was started is ended."""

from __future__ import annotations

import signal
import threading
import time
from functools import cache
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGHUP)
ONE_STOP_S = 2.0
"""Signals that come so soon after the first are the same stop: `timeout` signals the process, then its group."""

_received = signal.SIGINT
_received_at_s = 0.0


def stop_signal() -> signal.Signals:
    """What a KeyboardInterrupt comes from: SIGINT unless another signal was received. Ray's waits raise a new one, so that it
    cannot be read from the exception."""
    return _received


def exit_status() -> int:
    """That of a shell's command which a signal ended: 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + stop_signal()


def stop_on_signals() -> None:
    """From now on these signals raise KeyboardInterrupt in the main thread. Those that were ignored at first stay ignored, as
    under nohup.

    Call it again after `ray.init`, which installs handlers of its own that end the process at once.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _not_ignored():
            signal.signal(number, _stop)


@cache
def _not_ignored() -> tuple[signal.Signals, ...]:
    return tuple(number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    global _received, _received_at_s
    last_s, now_s = _received_at_s, time.monotonic()
    if last_s == 0.0 or now_s - last_s > ONE_STOP_S:
        _received, _received_at_s = signal.Signals(number), now_s
        raise KeyboardInterrupt
