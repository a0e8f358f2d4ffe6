"""The command `loadgen`: a Hydra app; one run, or with -m or an experiment a sweep. What is slow to import is imported late."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress

from loadgen.config.conf_folder import config_path
from loadgen.host.stop_signals import exit_status, stop_on_signals

__all__ = ["config_path", "main"]

CLOSED_PIPE = 141
SHELL_COMPLETION = {"-sc", "--shell-completion"}
"""What stands beside it is no override: install=bash, query=fish."""
TRACEBACK = "HYDRA_FULL_ERROR"
"""The environment variable under which Hydra raises what is wrong with the arguments, instead of printing and exiting."""


def main() -> None:
    """Entry point. Exit status: 0 every run is ok; 1 one is not, or nothing was started; 2 an option is wrong; 130, 143 and 129
    interrupted by Ctrl-C, SIGTERM and SIGHUP; 141 the reader of stdout is gone."""
    try:
        stop_on_signals()
        _command(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        started = "loadgen.sweep.driver" in sys.modules  # imported to start a run
        _end(f"interrupted; {'what was measured is stored' if started else 'nothing was started'}", exit_status())
    except BrokenPipeError:
        _end("", CLOSED_PIPE)
    except OSError as error:
        if error.filename is not None or not _stdout_fails():
            raise
        _end(f"stdout cannot be written: {error.strerror}", 1)


def _command(arguments: Sequence[str]) -> None:
    if "--version" in arguments:
        from loadgen.host.probe import package_version

        print(f"loadgen {package_version()}")
    elif {"--help", "-h"} & {*arguments} or arguments[:1] == ["help"]:
        _help([one for one in arguments if arguments[0] == "help"][1:])
    else:
        _compose(arguments)


def _help(names: Sequence[str]) -> None:
    from loadgen.config.help import about, whole
    from loadgen.errors import ConfigError

    try:
        print("\n".join(map(about, names)) if names else whole(), end="")
    except ConfigError as error:
        _end(str(error), 1)


def _compose(arguments: Sequence[str]) -> None:
    import hydra

    from loadgen.config.command_line import separated, to_hydra
    from loadgen.config.explain import explained
    from loadgen.config.hydra_schema import register
    from loadgen.config.known_mode import MULTIRUN, mode_from_options, mode_is_known
    from loadgen.config.overrides import refuse
    from loadgen.errors import Carried, ConfigError
    from loadgen.sweep.command import run
    from loadgen.sweep.sweeper import register_sweeper

    register()
    register_sweeper()
    asked = os.environ.get(TRACEBACK)
    os.environ[TRACEBACK] = "1"
    try:
        _refuse_folder()
        options, overrides = separated(arguments)
        if not SHELL_COMPLETION & {*options}:
            refuse(overrides, sweeping=bool(MULTIRUN & {*options}))
        sys.argv[1:] = to_hydra(arguments)
        with mode_from_options() if mode_is_known(options, overrides) else nullcontext():
            hydra.main(version_base="1.3", config_path=config_path(), config_name="config")(run)()
    except (Exception, Carried) as raised:
        error = raised.error if isinstance(raised, Carried) else raised
        why = str(error) if isinstance(error, ConfigError) else explained(error)
        if asked == "1" or why is None:
            raise error from None
        _end(why, 1)
    finally:
        os.environ.pop(TRACEBACK)
        if asked is not None:
            os.environ[TRACEBACK] = asked


def _refuse_folder() -> None:
    from loadgen.errors import ConfigError

    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError([f"the working directory cannot be used ({error.strerror}): change to another one"]) from None


def _stdout_fails() -> bool:
    """Whether stdout is what failed: a failed write has emptied its buffer, so one more byte fails too."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _end(text: str, status: int) -> None:
    """Exit with `status`, and with `text` on stderr; nothing more is written to stdout."""
    with suppress(OSError):  # after SIGHUP there is no terminal
        if text:
            print(text, file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)


if __name__ == "__main__":
    main()
