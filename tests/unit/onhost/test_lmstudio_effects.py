"""LM Studio is asked to quit for a change of its files and started again as it was; others are left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.lmstudio import LMStudio, wait_until
from tests.unit.onhost.pushed import effect, probe, statuses

STOP = {"do": "lmstudio", "action": "stop", "deadline_s": 20}
START = {"do": "lmstudio", "action": "start", "deadline_s": 20, "always": True}


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[LMStudio]:
    with LMStudio.install(tmp_path / "home") as installed:
        yield installed


def test_a_change_is_made_while_it_does_not_run(tmp_path: Path, studio: LMStudio) -> None:
    before = studio.start().root_pid
    settings = {**json.loads(studio.settings_file.read_text()), "developerMode": False}
    write = {"do": "write", "path": str(studio.settings_file), "content": json.dumps(settings), "keep": True}
    assert statuses(effect(tmp_path / "calm", STOP, write, START, env=studio.env)) == ["done", "done", "done"]
    wait_until(lambda: len(studio.running) == 1, "it was not started again")
    [now] = studio.running
    assert now.root_pid != before
    assert json.loads(studio.settings_file.read_text())["developerMode"] is False
    assert statuses(effect(tmp_path / "calm", START, env=studio.env)) == ["unchanged"]
    found = probe(tmp_path / "calm", studio.env, lmstudio={"enabled": "auto"})["lmstudio"]
    assert found["pids"] == [now.root_pid]


def test_it_is_started_again_after_a_failure_in_between(tmp_path: Path, studio: LMStudio) -> None:
    studio.start()
    results = effect(tmp_path / "calm", STOP, {"do": "run", "argv": ["false"]}, START, env=studio.env)
    assert statuses(results) == ["done", "failed", "done"]
    wait_until(lambda: len(studio.running) == 1, "it was not started again")


def test_one_that_does_not_quit_is_not_killed(tmp_path: Path, studio: LMStudio) -> None:
    instance = studio.start()
    instance.control(refuse_quit=True)
    [result, _] = effect(tmp_path / "calm", {**STOP, "deadline_s": 1}, START, env=studio.env)
    assert "did not quit within 1 s: its files are as they were; quit it by hand" in result["message"]
    assert [each.root_pid for each in studio.running] == [instance.root_pid]


def test_somebody_elses_is_left_alone(tmp_path: Path, studio: LMStudio) -> None:
    instance = studio.start()
    (tmp_path / "other").mkdir()
    results = effect(tmp_path / "calm", STOP, env={"HOME": str(tmp_path / "other")})
    assert statuses(results) == ["unchanged"]
    assert [each.root_pid for each in studio.running] == [instance.root_pid]


def test_one_that_was_never_noted_cannot_be_started(tmp_path: Path) -> None:
    [result] = effect(tmp_path / "calm", START, env={"HOME": str(tmp_path)})
    assert result["message"] == "LM Studio did not say where it is installed: start it by hand"
