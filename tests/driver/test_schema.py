"""Every key is declared once, and its line decides which values it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from loadgen.config.check import problems, unread
from loadgen.config.key import CHOSEN, TAKES, Key
from loadgen.config.options import of_registries
from loadgen.config.schema import GROUPS, KEYS, SET_BY_THE_DRIVER
from loadgen.config.validate import validate_cells
from loadgen.errors import ConfigError
from workers import disturb_spec, spec

Configure = Callable[..., DictConfig]
NUMBERS = [key for key in KEYS if key.type in (int, float, tuple) and key.least is not None]


def plain(cfg: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def leaves(values: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def test_the_composed_configuration_has_the_keys_of_the_schema_and_no_others(configure: Configure) -> None:
    found = set(leaves(plain(configure())))
    of_choices = {"engine.name", "strategy.name", *(key.name for key in of_registries()["strategy"]["uffd_wait"])}
    assert found - of_choices - {*SET_BY_THE_DRIVER} == {key.name for key in KEYS}
    assert len({key.name for key in KEYS}) == len(KEYS)


def test_every_number_has_both_bounds_and_says_what_the_upper_one_protects() -> None:
    for key in KEYS:
        if key.type in (int, float):
            assert key.least is not None and key.most is not None, key.name
            assert key.bound or key.unit == "share", key.name
            assert key.least <= key.default <= key.most, key.name
        elif key.choices and key.default is not CHOSEN:
            assert key.default in key.choices, key.name


def test_every_key_has_one_line_of_help_and_a_known_group() -> None:
    for key in (*KEYS, *(key for choices in of_registries().values() for keys in choices.values() for key in keys)):
        assert key.help and "\n" not in key.help and not key.help.endswith("."), key.name
        assert key.group in {"", *GROUPS}, key.name


@pytest.mark.parametrize("key", NUMBERS, ids=lambda key: key.name)
def test_a_number_outside_its_bounds_is_refused_with_the_bound(key: Key) -> None:
    assert key.least is not None and key.most is not None

    def said(value: float) -> list[str]:
        return list(key.problems([value] if key.type is tuple else value))

    assert said(key.least) == said(key.most) == []
    assert "is too small: use at least" in said(key.least - 1)[0]
    assert "is too large: use at most" in said(key.most * 2)[0]
    assert f"is not {TAKES[key.type]}: use " in next(key.problems("text"))
    if key.type is float:
        for value in (float("nan"), float("inf"), float("-inf")):
            assert next(key.problems(value)).startswith(f"{key.name}={value} is not a finite number: use ")


def test_a_word_that_is_unknown_is_refused_with_the_choices(configure: Configure) -> None:
    for key in KEYS:
        if key.choices:
            said = list(key.problems("nonsense"))
            assert said == [f"{key.name}=nonsense is unknown: use one of {', '.join(filter(None, key.choices))}"]
    assert list(problems(plain(configure()))) == []


@pytest.mark.parametrize(
    ("overrides", "key", "needs"),
    [
        (["access.trace_file=/x"], "access.trace_file", "access=trace"),
        (["access.stride_pages=2"], "access.stride_pages", "access=strided"),
        (["access=none", "access.rate_per_s=5"], "access.rate_per_s", "any access but access=none"),
        (["disturb.balloon.method=punch"], "disturb.balloon.method", "a positive disturb.balloon.rate_per_s"),
        (["disturb.devices.device_mapping=second"], "disturb.devices.device_mapping", "a positive disturb.devices.threads"),
        (["disturb.mmap_writers.map_kib=8"], "disturb.mmap_writers.map_kib", "a positive disturb.mmap_writers.threads"),
        (["fault_mix.poisoned_at=resolved"], "fault_mix.poisoned_at", "a positive fault_mix.poisoned"),
        (["source=remote", "source.batch_pages=2"], "source.batch_pages", "source=remote source.push=true"),
        (["source.retries=9"], "source.retries", "source=remote"),
        (["swap=zram", "swap.folder=/x"], "swap.folder", "swap=file"),
        (["prefetch.batch_pages=2"], "prefetch.batch_pages", "prefetch=order or prefetch=working_set"),
        (
            ["strategy=null", "page_server.readers_per_uffd=2"],
            "page_server.readers_per_uffd",
            "a strategy that uses userfaultfd, and page_server=poll, epoll or spin",
        ),
        (
            ["memory=hugetlb", "memory.transparent_huge_pages=true"],
            "memory.transparent_huge_pages",
            "memory=shmem or memory=anon",
        ),
        (["cluster.leave_out=[a]"], "cluster.leave_out", "cluster=existing"),
        (["placement.reader_cpus=[1]"], "placement.reader_cpus", "placement=explicit"),
    ],
)
def test_a_key_that_nothing_reads_is_refused_with_what_would(
    configure: Configure, overrides: list[str], key: str, needs: str
) -> None:
    refused = unread(plain(configure(*overrides)))
    assert set(refused) == {key}
    assert f"is read only with {needs}: add that, or leave {key} out" in refused[key]


def test_a_sweep_keeps_a_key_that_one_of_its_cells_reads(configure: Configure) -> None:
    cells = [configure(f"source={name}", "source.rtt_us=5") for name in ("local", "remote")]
    validate_cells(cells)
    with pytest.raises(ConfigError, match=r"source.rtt_us=5.0 is read only with source=remote"):
        validate_cells(cells[:1])


def test_two_cells_that_are_the_same_measurement_are_refused(configure: Configure) -> None:
    with pytest.raises(ConfigError, match="the sweep has one cell twice: give each value once"):
        validate_cells([configure("vcpus=2"), configure("vcpus=2")])
    cells = [configure(f"source={name}", f"source.rtt_us={rtt}") for name in ("local", "remote") for rtt in (0, 5)]
    with pytest.raises(ConfigError, match=r"for nothing reads what differs \(source.rtt_us=5.0\)"):
        validate_cells(cells)


def test_the_options_of_another_strategy_are_refused(configure: Configure) -> None:
    said = list(problems(plain(configure("strategy=uffd_wait", "strategy.name=no_uffd_wait"))))
    assert said == ["strategy.name=no_uffd_wait leaves the options of another strategy: use strategy=no_uffd_wait"]


TOUCHED = ("*.py", "*.hpp", "*.cpp")


def test_an_ordinary_key_is_in_the_schema_and_where_it_is_used() -> None:
    root = Path(__file__).parents[2]
    files = [
        str(path.relative_to(root))
        for package in ("loadgen", "workers")
        for pattern in TOUCHED
        for path in (root / package).rglob(pattern)
        if "handshake_timeout_s" in path.read_text()
    ]
    assert "loadgen/config/page_server_keys.py" in files  # a part of the schema
    assert len(files) <= 3, files


def test_no_default_of_a_key_stands_a_second_time_in_a_spec() -> None:
    specs = [one for module in (spec, disturb_spec) for one in vars(module).values() if is_dataclass(one)]
    assert len(specs) > 15
    assert [
        f"{one.__name__}.{field.name}"
        for one in specs
        for field in fields(one)
        if not (field.default is MISSING and field.default_factory is MISSING)
    ] == []
