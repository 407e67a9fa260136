"""LM Studio's own files: what calm sets in them, what it leaves, and when it does not dare."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Build
from tests.integration.stack import Stack
from tests.lab.lmstudio import LMStudio
from tests.lab.ports import free_ports

pytestmark = pytest.mark.engine

SETTINGS, SERVER = "document:lmstudio-settings", "document:lmstudio-server"


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def stack(build: Build, port: int) -> Stack:
    whole = build("studio", docker={"enabled": False}, lmstudio={"server": {"port": port}})
    whole.docker_env = {}
    return whole


@pytest.fixture
def studio(stack: Stack, port: int) -> Iterator[LMStudio]:
    with LMStudio.install(stack.home, port=port, settings={"myOwnKey": {"keep": "this"}}) as installed:
        yield installed


def files(stack: Stack) -> tuple[Path, Path]:
    home = stack.home / ".lmstudio"
    return home / "settings.json", home / ".internal" / "http-server-config.json"


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    whole = json.loads(path.read_text())
    edit(whole)
    path.write_text(json.dumps(whole, indent=2))


def test_drift_in_either_file_is_named_and_mended(stack: Stack, studio: LMStudio) -> None:
    assert not studio.running
    settings, server = files(stack)
    stack.apply()
    assert json.loads(settings.read_text())["autoLoadBundledLLM"] is False
    assert json.loads(settings.read_text())["myOwnKey"] == {"keep": "this"}
    assert stack.plan().code == 0

    change(settings, lambda whole: whole.update(autoLoadBundledLLM=True, another="mine"))
    change(server, lambda whole: whole.update(networkInterface="0.0.0.0"))
    pending = stack.pending()
    assert pending[SETTINGS]["origin"] == pending[SERVER]["origin"] == "host"
    assert any("autoLoadBundledLLM" in one["path"] for one in pending[SETTINGS]["changes"])
    assert any("networkInterface" in one["path"] for one in pending[SERVER]["changes"])
    stack.apply()
    assert json.loads(settings.read_text())["another"] == "mine"
    assert json.loads(server.read_text())["networkInterface"] == "127.0.0.1"
    assert stack.plan().code == 0
    assert studio.lms_calls == []


def test_a_link_in_place_of_a_merged_file_is_refused(stack: Stack, studio: LMStudio) -> None:  # noqa: ARG001
    settings, _ = files(stack)
    elsewhere = stack.folder / "elsewhere.json"
    settings.rename(elsewhere)
    settings.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    result = stack.calm("apply", "--yes")
    assert result.code == 1, result.said
    assert "link" in result.said
    assert elsewhere.read_bytes() == before


def test_a_file_that_is_not_there_is_not_made(stack: Stack, studio: LMStudio) -> None:  # noqa: ARG001
    settings, _ = files(stack)
    settings.unlink()
    result = stack.apply()
    assert "start LM Studio once" in result.out
    assert not settings.exists()


def test_while_it_runs_a_change_waits_for_its_next_start(stack: Stack, studio: LMStudio) -> None:
    running = studio.start()
    change(files(stack)[0], lambda whole: whole.update(autoLoadBundledLLM=True))
    plan = stack.calm("plan")
    assert plan.code == 2, plan.said
    assert "next start" in plan.out
    stack.apply()
    assert studio.running
    assert running.root_pid in studio.pids
    assert studio.lms_calls == []


def test_with_restart_it_is_stopped_written_and_started(stack: Stack, studio: LMStudio) -> None:
    first = studio.start()
    stack.write(lmstudio={"restart": True})
    stack.apply()
    assert studio.running
    assert first.root_pid not in studio.pids
    assert json.loads(files(stack)[0].read_text())["autoLoadBundledLLM"] is False
    assert stack.plan().code == 0
