"""The command `loadgen-serve`: the page server for VMMs that are not ours.

A VMM that restores a snapshot connects to the socket, hands its userfaultfd over by the
published handshake, and has its faults answered from the snapshot file.

    loadgen-serve --socket /run/uffd.sock --snapshot guest.mem --record outputs/dataset

It serves until SIGTERM or SIGINT: what is raised then is answered, every sleeper is
woken, and what was recorded is stored. Exit status: 0; 1 where a VMM could not be served
to its end or not stored, or nothing was started; 2 an option is wrong.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence

from loadgen.serve.foreign_vmm import Asked, Ended, ForeignVmm
from loadgen.serve.service import Service
from loadgen.serve.show import Shown
from results.store.locations import DataSetError
from results.store.trace_file import read_trace
from workers import _native

FAULT_RECORDS = 4_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = parse(arguments)
    shown = Shown(events=options.json, quiet=options.quiet)
    try:
        _serve(options, asked_of(options), shown)
    except (OSError, ValueError, DataSetError) as error:
        print(f"loadgen-serve: {error}", file=sys.stderr)
        return 1
    shown.close()
    return 1 if shown.failed else 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="loadgen-serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--socket", metavar="PATH", required=True, help="Unix socket to listen on; made, and removed at the end")
    parser.add_argument(
        "--snapshot", metavar="FILE", required=True, help="guest memory, the regions of a VMM in it by their offset"
    )
    parser.add_argument("--readers", metavar="N", type=_whole(1, 1024), default=1, help="reader threads of each VMM (default 1)")
    parser.add_argument("--wait", choices=("poll", "epoll", "spin"), default="poll", help="how readers wait (default poll)")
    parser.add_argument(
        "--fault-around",
        metavar="N",
        type=_whole(1, 512),
        default=1,
        help="pages of an aligned block brought for a fault (default 1)",
    )
    parser.add_argument("--wake-first", action="store_true", help="wake the faulting page first, fill its block afterwards")
    parser.add_argument("--prefetch", metavar="ORDER", default="none", help="none, order, or working_set:FILE (default none)")
    parser.add_argument("--prefetch-mib-per-s", metavar="R", type=_rate, default=0.0, help="its rate; 0: unpaced (default)")
    parser.add_argument("--delay-us", metavar="D", type=_rate, default=0.0, help="delay of each fetch (default 0)")
    parser.add_argument("--record", metavar="DATASET", default="", help="store each VMM as a run of kind serve")
    parser.add_argument("--working-set", metavar="FILE", default="", help="write the pages of the latest VMM, in their order")
    parser.add_argument("--allow-uids", metavar="UID", type=int, nargs="+", default=[], help="other users whose VMMs are served")
    parser.add_argument("--once", action="store_true", help="end when the first VMM has gone")
    parser.add_argument("--json", action="store_true", help="events as JSON lines on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    return parser.parse_args(arguments)


def asked_of(options: argparse.Namespace) -> Asked:
    """The options as VMMs are served by. Raises OSError and ValueError for a working set that cannot be used."""
    name, _, file = options.prefetch.partition(":")
    if name not in ("none", "order", "working_set") or bool(file) != (name == "working_set"):
        raise ValueError(f"--prefetch {options.prefetch}: use none, order or working_set:FILE")
    recorded = bool(options.record or options.working_set)
    try:
        working_set = tuple(read_trace(file).page.tolist()) if file else ()
    except ValueError as error:
        raise ValueError(f"--prefetch {options.prefetch}: {error}") from None
    return Asked(
        readers=options.readers,
        wait=options.wait,
        fault_around=options.fault_around,
        wake_first=options.wake_first,
        prefetch=name,
        working_set=working_set,
        prefetch_mib_per_s=options.prefetch_mib_per_s,
        delay_us=options.delay_us,
        fault_records=FAULT_RECORDS if recorded else 0,
    )


def _serve(options: argparse.Namespace, asked: Asked, shown: Shown) -> None:
    snapshot = _native.MappedSnapshot(options.snapshot)
    outside = [page for page in asked.working_set if page >= snapshot.bytes // 4096]
    if outside:
        raise ValueError(f"--prefetch {options.prefetch}: page {outside[0]} is beyond the snapshot")
    if options.working_set and not os.access(os.path.dirname(os.path.abspath(options.working_set)), os.W_OK):
        raise ValueError(f"--working-set {options.working_set}: its folder is not there, or cannot be written")
    observer = ShownAndStored(options, asked, shown)
    service = Service(options.socket, snapshot, asked, observer, options.allow_uids, options.once)
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda signalled, frame: stopped.append(signalled))
    signal.set_wakeup_fd(write_end)
    shown.serving(options.socket, options.snapshot, snapshot)
    service.run(read_end, lambda: bool(stopped))


class ShownAndStored:
    """Shows what happens, and stores each VMM that has gone."""

    def __init__(self, options: argparse.Namespace, asked: Asked, shown: Shown) -> None:
        self._shown, self._working_set = shown, options.working_set
        self._store: Callable[[ForeignVmm, Ended], str] | None = None
        if options.record:
            from loadgen.serve.record import Recorder  # PyArrow takes its time

            self._store = Recorder(options.record, asked).store
        self.began, self.refused = shown.began, shown.refused

    def look(self, vmms: Collection[ForeignVmm]) -> None:
        """Progress."""
        self._shown.look(vmms)

    def ended(self, vmm: ForeignVmm, ended: Ended, why: str) -> None:
        """It has gone."""
        run_id = None
        try:
            if self._working_set and len(ended.faults):
                from loadgen.serve.record import working_set

                with open(self._working_set, "w", encoding="utf-8") as out:
                    out.writelines(f"{page}\n" for page in working_set(ended))
            run_id = self._store(vmm, ended) if self._store is not None else None
        except (OSError, DataSetError) as error:
            ended.status, why = "failed", f"{why}; not stored: {error}"
        self._shown.ended(vmm, ended, why, run_id)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number


def _rate(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1e9")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
