"""Ray and its actors, started once and used again from run to run of a sweep."""

from __future__ import annotations

import atexit
import contextlib
import getpass
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from loadgen.host_changes import HostChanges
from loadgen.self_watch import cpu_share, snapshot
from workers.page_server import PageServer
from workers.source import Source
from workers.vcpu import Vcpu

START_TIMEOUT_S = 60.0
QUIET_S = 0.5
QUIET_LOOKS = 2
FOLDER_PREFIX = "ulg-"


class Session:
    """An embedded Ray on this host: a page server actor, and VMM process actors made as runs ask for them.

    Its files live in a temporary folder of its own. `close` ends all of it.
    """

    def __init__(self) -> None:
        _remove_stale_folders()
        self._folder = tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-")  # short: Unix sockets lie below it
        self._tmpdir = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = self._folder  # inherited by the actors: what a killed one leaves goes with the folder
        self._server: Any = None
        self._source: Any = None
        self._vcpus: list[Any] = []
        self._exit_ns: dict[str, float] = {}
        self._idle_cpu_share: dict[int, float] = {}
        self._ended: float | None = None
        self.host_changes = HostChanges()
        atexit.register(self.close)
        try:
            self._start_ray()
        except BaseException:
            self.close()
            raise

    def _start_ray(self) -> None:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            _temp_dir=self._folder,
            _node_ip_address="127.0.0.1",
            object_store_memory=512 << 20,
        )

    def actors(self, vmms: int) -> tuple[Any, list[Any]]:
        """The page server and `vmms` VMM process actors; those that are not there yet are started."""
        if self._server is None:
            self._server = ray.remote(PageServer).options(num_cpus=0, max_concurrency=4).remote()
        while len(self._vcpus) < vmms:
            self._vcpus.append(ray.remote(Vcpu).options(num_cpus=0).remote())
        return self._server, self._vcpus[:vmms]

    def source(self) -> Any:
        """The actor that holds the memory of runs with `source=remote` and no address; started when first asked for."""
        if self._source is None:
            self._source = ray.remote(Source).options(num_cpus=0).remote()
        return self._source

    def name_of(self, actor_id: str | None) -> str:
        """An actor in the user's words, by the id (hex) that Ray's errors carry."""
        for number, vcpu in enumerate(self._vcpus):
            if vcpu._actor_id.hex() == actor_id:
                return f"VMM process {number}"
        if self._source is not None and self._source._actor_id.hex() == actor_id:
            return "the source"
        return "the page server" if self._server is not None and self._server._actor_id.hex() == actor_id else "an actor"

    def begin_run(self) -> float:
        """When the run's time begins (perf_counter): where the last one's ended, so that nothing between them is lost."""
        return time.perf_counter() if self._ended is None else self._ended

    def end_run(self) -> float:
        """The run's time ends now (perf_counter)."""
        self._ended = time.perf_counter()
        return self._ended

    def idle_actors(self, vmms: int) -> int:
        """VMM process actors alive that a run of `vmms` has no use for."""
        return max(0, len(self._vcpus) - vmms)

    def exit_ns(self, kind: str) -> float:
        """What an emulated exit of this kind costs here; measured once a session, in an actor as the exits are."""
        if kind not in self._exit_ns:
            _, [vcpu] = self.actors(1)
            self._exit_ns[kind] = float(ray.get(vcpu.calibrate.remote(kind), timeout=START_TIMEOUT_S))
        return self._exit_ns[kind]

    def idle_cpu_share(self) -> float:
        """CPUs that driver, Ray and the actors there are use while nobody asks anything of them; measured once for each number
        of actors, in the quieter of QUIET_LOOKS times QUIET_S: an actor that has just started is not idle yet."""
        alive = len(self._vcpus)
        if alive not in self._idle_cpu_share:
            ray.get([actor.__ray_ready__.remote() for actor in (self._server, *self._vcpus)], timeout=START_TIMEOUT_S)
            self._idle_cpu_share[alive] = min(_quiet_share() for _ in range(QUIET_LOOKS))
        return self._idle_cpu_share[alive]

    def renew(self) -> None:
        """End every actor: after a run that lost one or left one busy. The next run gets new ones."""
        for actor in (self._server, self._source, *self._vcpus):
            if actor is not None:
                with contextlib.suppress(Exception):
                    ray.kill(actor)
        self._server, self._source, self._vcpus = None, None, []

    def close(self) -> None:
        """End Ray and remove its files; idempotent."""
        if not self._folder:
            return
        self.renew()
        ray.shutdown()
        self.host_changes.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = ""
        if self._tmpdir is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = self._tmpdir
        atexit.unregister(self.close)


def _quiet_share() -> float:
    before = snapshot()
    time.sleep(QUIET_S)
    return cpu_share(before, snapshot())


def _remove_stale_folders() -> None:
    """What drivers that were killed have left: their processes end by themselves, their folders do not."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        pid = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if pid.isdigit() and folder.owner() == getpass.getuser() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
