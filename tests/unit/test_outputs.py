from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from calm import outputs
from calm.health.model import Endpoint, Watched
from tests.unit.heal.made import MIB, NOW, container, instance, model, snapshot

PROJECT = container().project or ""


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_in_each_log_and_the_latest_metrics(tmp_path: Path) -> None:
    written = outputs.Outputs(tmp_path / "outputs", PROJECT)
    first, second = snapshot(instance()), snapshot(instance(), instance(200), at=NOW + 30)
    written.write(first, first.to_text())
    written.write(second, second.to_text())
    written.close()
    lmstudio = _lines(tmp_path / "outputs" / "lm_studio_monitoring.log")
    assert [line["instances"] for line in lmstudio] == [1, 2]
    assert len(_lines(tmp_path / "outputs" / "docker_monitoring.log")) == 2
    latest = json.loads((tmp_path / "outputs" / "system_metrics.json").read_text())
    assert latest["taken_at"] == NOW + 30
    names = {path.name for path in (tmp_path / "outputs").iterdir()}
    assert names == {"lm_studio_monitoring.log", "docker_monitoring.log", "system_metrics.json"}


def test_what_the_lm_studio_log_says() -> None:
    aura = Watched(name="LM_Support.exe", pid=1, created_at=1.0, executable=None, cpu_percent=None)
    line = outputs.lmstudio_line(
        snapshot(instance(), instance(200), watched=[aura], models=[model()], latency_ms=3.0)
    )
    assert line == {
        "time": NOW,
        "instances": 2,
        "lm_support": 1,
        "cpu_percent": 2.0,
        "memory_bytes": 600 * MIB,
        "api_reachable": True,
        "api_latency_ms": 3.0,
        "models": ["qwen"],
    }


def test_what_could_not_be_measured_is_null_and_never_half_a_sum() -> None:
    line = outputs.lmstudio_line(
        snapshot(instance(cpu_percent=None), instance(200, uss_bytes=None), models=None)
    )
    assert (line["cpu_percent"], line["memory_bytes"], line["models"]) == (None, None, None)


def test_what_the_docker_log_says() -> None:
    redis = Endpoint(name="redis", url="x", ok=True, latency_ms=1.0, error=None)
    seen = replace(snapshot(containers=[container()]), endpoints=(redis,))
    line = outputs.docker_line(seen, PROJECT)
    assert line["services"] == {
        "redis": {
            "state": "running",
            "health": "healthy",
            "cpu_percent": 1.0,
            "memory_bytes": 50 * MIB,
            "memory_limit_bytes": 512 * MIB,
        }
    }
    assert line["endpoints"] == {"redis": {"ok": True, "latency_ms": 1.0}}


def test_a_service_of_another_project_goes_by_its_containers_name() -> None:
    ours = container()
    theirs = replace(ours, name="shop-redis", project="shop", owned=False, state="exited")
    line = outputs.docker_line(snapshot(containers=[ours, theirs]), PROJECT)
    states = {name: service["state"] for name, service in line["services"].items()}
    assert states == {"redis": "running", "shop-redis": "exited"}


def test_logs_are_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "_BYTES", 2000)
    written = outputs.Outputs(tmp_path, PROJECT)
    for number in range(60):
        seen = snapshot(instance(), at=NOW + number)
        written.write(seen, seen.to_text())
    written.close()
    logs = sorted(path.name for path in tmp_path.glob("lm_studio_monitoring.log*"))
    assert logs == [f"lm_studio_monitoring.log{end}" for end in ("", ".1", ".2", ".3")]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.glob("lm_studio_monitoring.log*"))


def test_a_failing_disk_raises(tmp_path: Path) -> None:
    written = outputs.Outputs(tmp_path / "outputs", PROJECT)
    (tmp_path / "outputs" / "lm_studio_monitoring.log").mkdir()
    with pytest.raises(OSError, match="directory"):
        written.write(snapshot(), "{}")
