"""The remote source's actor: it holds a guest's memory and serves its pages over TCP to the page server, on whatever host."""

from __future__ import annotations

from typing import Any

from workers import _native
from workers.actor import Actor
from workers.protocol.source_address import join_address
from workers.spec import RunSpec


class Source(Actor):
    """Holds one memory at a time: `open`, then page servers come and go; `close`.

    A plain class; the driver makes an actor of it.
    """

    def __init__(self, deadman_s: float = 0.0) -> None:
        super().__init__(deadman_s)
        self._config: dict[str, Any] = {}
        self._server: _native.SourceServer | None = None

    def open(self, spec: RunSpec, host: str = "127.0.0.1") -> str:
        """Hold the memory of this run and listen on `host`; returns HOST:PORT for `SourceSpec.address`.

        Memory that is here already is kept from run to run. Raises OSError (KernelError) and ValueError.
        """
        config = {
            "host": host,
            "region_bytes": spec.memory.region_bytes,
            "page_bytes": spec.memory.page_bytes,
            "seed": spec.source.seed,
            "rtt_us": spec.source.rtt_us,
        }
        if self._server is None or config != self._config:
            self.close()
            self._server = _native.SourceServer(config)
            self._config = config
        return join_address(host, self._server.port)

    def served(self) -> dict[str, Any]:
        """Since `open`: `connections`, `requests`, `pages`, `pages_pushed`, `refused`, `last_refusal`."""
        return {} if self._server is None else self._server.served()

    def close(self) -> None:
        """End every connection and free the memory; idempotent."""
        if self._server is not None:
            self._server.stop()
        self._server, self._config = None, {}
