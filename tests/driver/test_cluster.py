"""What a driver does to the Ray it joins."""

from __future__ import annotations

import pytest
import ray

from loadgen.cluster.cluster import keep_off_stdout

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
