"""The row of a host in `calm status`, from what its probe and its agent said."""

from __future__ import annotations

import json
from typing import Any

import click

from calm.fleet import statuses
from calm.fleet.board import HostRun
from calm.settings import Settings
from facts.health import Health

PULL = {
    "schema": 1,
    "from": "https://example.org/c.git",
    "commit": "abc",
    "at": 0.0,
    "code": 3,
    "summary": None,
}
STATE: dict[str, Any] = {
    "controller": {"release": "f" * 64},
    "agent": {"release": "a" * 64},
    "containers": [
        {
            "service": "redis",
            "name": "agent-system-redis",
            "project": "agent-system",
            "health": "healthy",
            "state": "running",
        },
        {
            "service": "agent-api",
            "name": "agent-system-api",
            "project": "agent-system",
            "health": "healthy",
            "state": "paused",
        },
        {"service": "x", "name": "x", "project": "another", "health": "unhealthy", "state": "running"},
    ],
    "healing": {"findings": [{"rule": "disk_low", "target": "disk", "evidence": {"says": "2 % are free"}}]},
    "lmstudio": {"status": "found", "version": "0.4.7", "running": True},
    "schedules": {
        "runs": {
            "prune": {"last_result": "exit-code"},
            "watch": {"last_result": None},
            "x": {"last_result": "success"},
        }
    },
    "files": {statuses.PULLED: {"content": json.dumps(PULL)}},
    "record": {"applied_at": 1e9},
}


def row(**health: Any) -> dict[str, Any]:
    run = HostRun(name="gpu-1", digest_key="", state=STATE, settings=Settings(), health=health)
    return statuses._row({"name": "gpu-1", "status": "converged", "error": None, "resources": []}, run)


def test_a_row_has_what_the_host_and_its_agent_know() -> None:
    found = row(lmstudio={"api": {"models_loaded": [{"id": "qwen3-8b"}]}})
    assert found["services"] == {"redis": "healthy", "agent-api": "paused"}, "of this stack alone"
    assert found["lmstudio"] == {"version": "0.4.7", "running": True, "models": ["qwen3-8b"]}
    assert found["agent"] == {"release": "a" * 64, "current": False}
    assert found["pull"] == {key: PULL[key] for key in ("from", "commit", "at", "code", "summary")}


def test_what_no_agent_was_asked_about_is_null() -> None:
    assert row()["lmstudio"]["models"] is None


def test_below_the_table_stands_what_is_the_matter() -> None:
    text = click.unstyle(statuses.table([row()])).splitlines()
    assert "1/2 well" in text[1]
    assert "3, 1 failed" in text[1]
    assert "aaaaaaaa, old" in text[1]
    assert text[2] == "gpu-1: disk_low disk: 2 % are free"
    assert text[3] == "gpu-1: schedule prune: exit-code"
    assert text[4].startswith("gpu-1: calm pull ended with 3")


def test_an_agent_that_says_nothing_useful_is_no_failure() -> None:
    assert Health().process(["Traceback", "nonsense"]) == {}
    assert Health().process(['{"schema": 1, "lmstudio": null}']) == {"schema": 1, "lmstudio": None}
    assert "'/home/a b/calm/agent/venv/bin/calm' snapshot" in str(Health().command(root="/home/a b/calm"))
