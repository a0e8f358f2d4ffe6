"""Ray as it is embedded in the driver's process tree: started with what actors on one host need, and nothing else."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from typing import Any

import ray

from loadgen.errors import ConfigError
from loadgen.host.limits import object_store_bytes

NOT_STARTED = ("start_monitor", "start_log_monitor", "start_api_server")
"""Methods of Ray's node that start the autoscaler, the reader of the workers' logs and the server of the dashboard: three
interpreters, for services that nothing here asks for."""
AGENT = ("-P", "-m", "loadgen.cluster.ray_agent")
"""Options of the interpreter that runs Ray's dashboard agent, before its file. -P: the working directory holds no module."""
COMMAND_OF = "_build_python_executable_command_memory_profileable"
"""Function of Ray's that gives the interpreter and its options for a component."""
DEPENDENCIES = "get_dashboard_dependency_error"
"""Function of Ray's that says what the dashboard lacks; it imports all that it needs to find out."""
AHEAD_PER_CPU = 2
"""Actors whose processes are started along with Ray, at the most. Actors ask for no CPU of Ray's."""


def start_ray(folder: str, actors: int) -> None:
    """Start Ray with its files in `folder`; processes for that many actors are started along with it. Raises ConfigError with
    the cause in one line."""
    try:
        with in_own_process_group(), without_services(), with_bare_agent():
            ray.init(
                address="local",
                num_cpus=max(1, min(actors, AHEAD_PER_CPU * (os.cpu_count() or 1))),  # so many worker processes start at once
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                _temp_dir=folder,
                _node_ip_address="127.0.0.1",
                object_store_memory=object_store_bytes(),
            )
    except Exception as error:
        raise ConfigError(
            [f"Ray could not be started on this host: {_first_line(error)}; `loadgen-doctor` shows the limits it runs under"]
        ) from None
    keep_off_stdout()


@contextlib.contextmanager
def in_own_process_group() -> Iterator[None]:
    """What Ray starts meanwhile is in process groups of its own: a signal to the driver's group (`timeout`, a closed terminal)
    must leave the driver a Ray to store its run with. Nothing public does it: a Ray without this name is started as it is."""
    services = _private("services")
    started_by = getattr(services, "ConsolePopen", None)
    if started_by is None:
        yield
        return
    services.ConsolePopen = functools.partial(started_by, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = started_by


@contextlib.contextmanager
def without_services() -> Iterator[None]:
    """A Ray that is started meanwhile has none of the services of NOT_STARTED. Nothing public leaves them out: a Ray without
    these names is started with them."""
    node = getattr(_private("node"), "Node", None)
    spared = {name: getattr(node, name) for name in NOT_STARTED if hasattr(node, name)}
    for name in spared:
        setattr(node, name, _nothing)
    try:
        yield
    finally:
        for name, method in spared.items():
            setattr(node, name, method)


@contextlib.contextmanager
def with_bare_agent() -> Iterator[None]:
    """The dashboard agent of a Ray that is started meanwhile loads no module of the dashboard, as where Ray is installed without
    the dashboard. Nothing public does it: a Ray without these names is started as it is."""
    services, utils = _private("services"), _private("utils")
    command = getattr(services, COMMAND_OF, None)
    dependencies = getattr(utils, DEPENDENCIES, None)
    if command is None or dependencies is None:
        yield
        return

    def with_agent(component: str, *arguments: Any, **more: Any) -> list[str]:
        of_the_agent = AGENT if component == "dashboard_agent" else ()
        return [*command(component, *arguments, **more), *of_the_agent]

    setattr(services, COMMAND_OF, with_agent)
    setattr(utils, DEPENDENCIES, lambda: ImportError("no dashboard is asked for"))
    try:
        yield
    finally:
        setattr(services, COMMAND_OF, command)
        setattr(utils, DEPENDENCIES, dependencies)


def keep_off_stdout() -> None:
    """Ray prints on stdout that an actor or a node is gone, whatever `log_to_driver` is. stdout is for results, and the run that
    lost it has the reason. The flag is private: a Ray without it prints on."""
    worker = _private("worker")
    if hasattr(worker, "_worker_logs_enabled"):
        worker._worker_logs_enabled = False


def _private(module: str) -> Any:
    return getattr(getattr(ray, "_private", None), module, None)


def _nothing(*_: object, **__: object) -> None:
    """In the place of a method of NOT_STARTED."""


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
