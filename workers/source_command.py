"""The command `loadgen-source`: hold a guest's memory on this host and serve it over TCP, or write it to a snapshot file.

    loadgen-source --listen 0.0.0.0:7000 --region-mib 64 --seed 1     then, elsewhere: source=remote source.address=HOST:7000
    loadgen-source --snapshot /data/guest.mem --region-mib 64 --seed 1           then: source=file source.file=/data/guest.mem

Peers are not authenticated and nothing is encrypted: listen on a network whose hosts may all read the guest's memory.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from workers import _native
from workers.protocol.source_address import join_address, split_address

MIB = 1 << 20


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="loadgen-source", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--listen", metavar="HOST:PORT", help="address to serve at; port 0: a free port")
    what.add_argument("--snapshot", metavar="FILE", help="write the memory to this file and end")
    parser.add_argument("--region-mib", type=int, required=True, help="size of the guest region, as memory.region_mib")
    parser.add_argument("--page-bytes", type=int, default=4096, help="as memory.page_bytes (default 4096)")
    parser.add_argument("--seed", type=int, default=1, help="of the contents, as seed (default 1)")
    parser.add_argument("--rtt-us", type=float, default=0.0, help="emulated round-trip time added to every answer (default 0)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; serves until SIGINT or SIGTERM. Exit status 0, or 1 after an error."""
    asked = parse(arguments)
    try:
        if asked.snapshot:
            _native.write_snapshot(asked.snapshot, asked.region_mib * MIB, asked.page_bytes, asked.seed)
            print(f"{asked.region_mib} MiB of seed {asked.seed} written to {asked.snapshot}")
        else:
            _serve(asked)
    except (OSError, ValueError) as error:
        print(f"loadgen-source: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(asked: argparse.Namespace) -> None:
    host, port = split_address(asked.listen)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # before threads are started, which would take them
    server = _native.SourceServer(
        {
            "host": host,
            "port": port,
            "region_bytes": asked.region_mib * MIB,
            "page_bytes": asked.page_bytes,
            "seed": asked.seed,
            "rtt_us": asked.rtt_us,
        }
    )
    print(f"serving {asked.region_mib} MiB of seed {asked.seed} at {join_address(host, server.port)}", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    server.stop()
    served = server.served()
    print(
        f"served {served['pages']} pages on demand and {served['pages_pushed']} pushed; refused {served['refused']}", flush=True
    )
    if served["last_refusal"]:
        print(f"last refused: {served['last_refusal']}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
