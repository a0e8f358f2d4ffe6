"""What a driver does to the Ray it starts or joins."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from loadgen.cluster.cluster import Local
from loadgen.cluster.embedded_ray import NOT_STARTED, keep_off_stdout, without_services
from loadgen.errors import ConfigError

FLAG = "ray._private.worker._worker_logs_enabled"


def test_rays_own_messages_are_kept_off_stdout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(FLAG, True)
    lost = {"lines": ["a node was marked dead"], "pid": "raylet", "is_err": False}
    ray._private.worker.print_worker_logs(lost, None)
    assert "a node was marked dead" in capsys.readouterr().out, "this is the way they take"
    keep_off_stdout()
    ray._private.worker.print_worker_logs(lost, None)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("missing", [FLAG, "ray._private.worker", "ray._private"])
def test_a_ray_without_that_flag_is_used_all_the_same(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delattr(missing)
    keep_off_stdout()


def test_services_that_nothing_asks_for_are_left_out_of_a_ray_that_is_started_and_of_no_other() -> None:
    node = ray._private.node.Node
    before = [getattr(node, name) for name in NOT_STARTED]
    with without_services():
        assert [getattr(node, name)(None, include_dashboard=False) for name in NOT_STARTED] == [None, None, None]
    assert [getattr(node, name) for name in NOT_STARTED] == before


@pytest.mark.parametrize("missing", [*(f"ray._private.node.Node.{name}" for name in NOT_STARTED), "ray._private.node"])
def test_a_ray_that_names_its_services_otherwise_is_started_with_them(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delattr(missing)
    with without_services():
        pass


def test_a_keeper_that_cannot_be_started_is_named_and_leaves_no_folder(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(short_path / "nothing"))
    local = Local()
    with pytest.raises(ConfigError, match="the process that cleans up after a run cannot be started"):
        local.start(2)
    local.close()
    assert list(short_path.iterdir()) == []
