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


class Stopped(KeyboardInterrupt):
    """The command was asked to end by a signal; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_status(interruption: KeyboardInterrupt) -> int:
    """That of a shell's command which a signal ended: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (interruption.number if isinstance(interruption, Stopped) else signal.SIGINT)


def stop_on_signals() -> None:
    """From now on these signals raise Stopped in the main thread. Those that were ignored at first stay ignored, as under nohup.

    Call it again after `ray.init`, which installs handlers of its own that end the process at once.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _not_ignored():
            signal.signal(number, _stop)


@cache
def _not_ignored() -> tuple[signal.Signals, ...]:
    return tuple(number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN)


_last_stop_s = 0.0


def _stop(number: int, frame: FrameType | None) -> None:
    global _last_stop_s
    before, _last_stop_s = _last_stop_s, time.monotonic()
    if before == 0.0 or _last_stop_s - before > ONE_STOP_S:
        raise Stopped(number)
