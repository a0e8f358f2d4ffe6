"""`loadgen --help` and `loadgen help NAME`: every group, choice and key, from the schema, the registries and conf/."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from loadgen.config.choices import Choice, choices, default_choices
from loadgen.config.key import Key
from loadgen.config.options import of_registries
from loadgen.config.schema import GROUPS, KEYS
from loadgen.errors import ConfigError

WIDTH = 100
USAGE = """\
loadgen: generates userfaultfd faults and measures how they are resolved.

Usage:  loadgen [OPTION]... [KEY=VALUE]... [GROUP=CHOICE]...
        loadgen help NAME                   one key, group or choice in detail

  loadgen vcpus=4 strategy=no_uffd_wait     one run; repeats=3 makes three
  loadgen -m vcpus=1,2,4 memory=shmem,anon  a sweep: every combination
  loadgen experiment=restore                a sweep that answers a question
  loadgen experiment=restore dry_run=true   the plan of it

Options, in any order with keys:
  -m, --multirun      sweep over comma-separated values, range(1,5) and glob(*)
  --quiet             no progress lines (quiet=true)
  --json              events as JSON lines on stdout (json=true)
  -c, --cfg job       print the composed configuration and exit
  -cd, --config-dir D search D for groups and experiments too
  --version           print the version of loadgen and exit
  -h, --help          print this text and exit
  --hydra-help        print the other options of Hydra and exit

A value with =, a comma, a space or a bracket is quoted twice: 'dataset="a=b"'.
Exit status: 0 every run is ok, 1 a run is not or nothing was started, 2 an option is wrong,
130 interrupted.
"""


def whole() -> str:
    """The text of `loadgen --help`; no line is wider than WIDTH."""
    lines = [USAGE, "Groups (GROUP=CHOICE; * marks the default):"]
    for group in GROUPS:
        lines += _group_lines(group)
    for title, keys in _sections():
        lines += ["", title, *(line for key in keys for line in _key_lines(key))]
    return "\n".join(lines) + "\n"


def about(name: str) -> str:
    """The text of `loadgen help NAME`. Raises ConfigError for a name that is no key, group or choice, with those like it."""
    options = [key for by_choice in of_registries().values() for keys in by_choice.values() for key in keys]
    texts = [_about_group(name)] if name in GROUPS else []
    texts += [_about_key(key) for key in {key.name: key for key in (*KEYS, *options)}.values() if key.name == name]
    texts += [
        _about_choice(group, one) for group in GROUPS for one in choices()[group] if name in (one.name, f"{group}={one.name}")
    ]
    if texts:
        return "\n".join(texts)
    names = [*GROUPS, *(key.name for key in (*KEYS, *options)), *(one.name for group in GROUPS for one in choices()[group])]
    ends = [one for one in names if one.rpartition(".")[2] == name]
    alike = list(dict.fromkeys([*ends, *difflib.get_close_matches(name, names, 5, 0.5)]))
    also = f"; similar names: {', '.join(alike)}" if alike else ""
    raise ConfigError([f"there is no key, group or choice {name}{also}; `loadgen --help` lists all"], "No such help:")


def _sections() -> Iterator[tuple[str, Sequence[Key]]]:
    yield "Keys of a run (KEY=default, unit, meaning):", [key for key in KEYS if not key.group]
    for group, what in GROUPS.items():
        keys = [key for key in KEYS if key.group == group and key.shown_default]
        if keys:
            yield f"{group}: {what}", keys
        if group in of_registries():
            yield f"{group}: {what}", _options(group)


def _options(group: str) -> list[Key]:
    """Each option of the group's choices once; its help ends with the choices that have it."""
    owners: dict[str, list[str]] = {}
    for choice, options in of_registries()[group].items():
        for key in options:
            owners.setdefault(key.name, []).append(choice)
    by_name = {key.name: key for options in of_registries()[group].values() for key in options}
    return [replace(key, help=f"{key.help} [{', '.join(owners[name])}]") for name, key in by_name.items()]


def _group_lines(group: str) -> list[str]:
    names = [f"*{one.name}" if one.name == default_choices().get(group) else one.name for one in choices()[group]]
    return textwrap.wrap(", ".join(names), WIDTH, initial_indent=f"  {group:<13}", subsequent_indent=" " * 15)


def _key_lines(key: Key) -> list[str]:
    head = f"  {key.name}={key.shown_default}"
    unit = f"[{key.unit}] " if key.unit else ""
    words = f" ({', '.join(filter(None, key.choices))})" if key.choices and key.name != "question" else ""
    text = textwrap.wrap(f"{unit}{key.help}{words}", WIDTH - 42)
    if len(head) > 40:
        return [head, *(" " * 42 + line for line in text)]
    return [f"{head:<42}{text[0]}", *(" " * 42 + line for line in text[1:])]


def _about_key(key: Key) -> str:
    rows = [
        ("default", key.shown_default or f"set by {key.group}=CHOICE"),
        ("unit", key.unit),
        ("values", key.range or ("a list" if key.type is tuple else "any text")),
        ("upper bound", key.bound and f"protects: {key.bound}"),
        ("read with", key.when.text if key.when else ""),
        ("set by", ", ".join(_set_by(key))),
    ]
    return "\n".join([f"{key.name}: {key.help}", *(f"  {name:<12}{text}" for name, text in rows if text)]) + "\n"


def _set_by(key: Key) -> list[str]:
    """Choices that give the key a value of their own, each with the value."""
    inside = key.name.partition(".")[2].split(".")
    found = []
    for one in choices().get(key.group, ()):
        value = one.sets
        for part in inside:
            value = value.get(part) if isinstance(value, dict) else None  # type: ignore[assignment]
        if value is not None:
            found.append(f"{key.group}={one.name} ({value})")
    return found


def _about_group(group: str) -> str:
    lines = [f"{group}: {GROUPS[group]}"]
    for one in choices()[group]:
        mark = "*" if one.name == default_choices().get(group) else " "
        lines += textwrap.wrap(f"{one.summary}", WIDTH, initial_indent=f" {mark}{one.name:<22} ", subsequent_indent=" " * 25)
    keys = [key for key in KEYS if key.group == group]
    return "\n".join([*lines, *(line for key in keys for line in _key_lines(key))]) + "\n"


def _about_choice(group: str, one: Choice) -> str:
    lines = textwrap.wrap(f"{group}={one.name}: {one.summary}", WIDTH)
    options = of_registries().get(group, {}).get(one.name, ())
    return "\n".join([*lines, *(line for key in options for line in _key_lines(key))]) + "\n"
