"""What Hydra and OmegaConf raise about arguments, in the words of the other refusals."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator

from hydra.errors import ConfigCompositionException, HydraException
from omegaconf.errors import OmegaConfBaseException

from loadgen.config.choices import choices
from loadgen.config.key import TAKES
from loadgen.config.schema import KEYS
from loadgen.errors import ConfigError

UNKNOWN_CHOICE = re.compile(
    r"Could not find '(?P<group>[^']+)/(?P<choice>[^'/]*)'\s+Available options in '[^']+':(?P<all>[\s\S]*)"
)
NOT_LOADED = re.compile(r"Could not load '(?P<group>[^']+)/(?P<choice>[^'/]*)'")
UNKNOWN_KEY = re.compile(r"Key '(?P<key>[^']*)' not in '\w+ \(keys: (?P<all>[^)]*)\)'")
LIBRARIES = ("/hydra/", "/omegaconf/", "/antlr4/")


def explained(error: BaseException) -> str | None:
    """The refusal of the arguments that made Hydra raise `error`; None for an error that is not about them."""
    if not isinstance(error, HydraException | OmegaConfBaseException) and not _raised_by_a_library(error):
        return None
    return str(ConfigError([why(error)]))


def why(error: BaseException) -> str:
    """One line that names what is wrong with the arguments and what to do."""
    chain = list(_chain(error))
    for one in chain:
        key = UNKNOWN_KEY.search(str(one))
        if key:
            return f"there is no key {getattr(one, 'full_key', key['key'])} here: the keys are {key['all']}"
        if isinstance(one, OmegaConfBaseException) and one.full_key:
            return f"{_first_line(one)}{_of_the_key(str(one.full_key))}"
    text = str(error)
    unknown = re.search(
        r"Could not find '(?P<group>[^']+)/(?P<choice>[^'/]*)'\s+Available options in '[^']+':(?P<all>[\s\S]*)", text
    )
    if unknown:
        names = ", ".join(line.strip() for line in unknown["all"].split("Config search path")[0].splitlines() if line.strip())
        return f"{unknown['group']}={unknown['choice']} is unknown: use one of {names}"
    absent = NOT_LOADED.search(str(error))
    if absent and absent["group"] in choices():
        names = ", ".join(one.name for one in choices()[absent["group"]])
        return f"{absent['group']}={absent['choice']} is unknown: use one of {names}"
    causes = "; ".join(dict.fromkeys(_first_line(one) for one in chain if str(one)))
    return f"{causes or type(error).__name__}: `loadgen --help` lists keys and choices"


def _of_the_key(name: str) -> str:
    for key in KEYS:
        if key.name == re.sub(r"\[\d+\]$", "", name):
            takes = TAKES[key.type] if key.type in (int, float, tuple) else ""
            return f" (key {name}): use {', '.join(filter(None, (takes, key.range)))}" if takes or key.range else f" (key {name})"
    return f" (key {name})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (
        re.sub(r" \(keys: .*\)", "", lines[0]) if lines and not isinstance(error, ConfigCompositionException) else _joined(lines)
    )


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if "append to your config" not in line)


def _raised_by_a_library(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and any(library in frames[-1].filename for library in LIBRARIES)
