"""Whom a benchmark asks when nobody says it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calm.bench import targets
from calm.bench.stream import Target
from calm.settings import Settings

OFF: dict[str, Any] = {"lmstudio": {"enabled": False}}
YAML = "llm: {provider: lmstudio, model: qwen, endpoint: 'http://gpu:1234/v1/chat/completions'}"


def llm(settings: dict[str, Any], root: Path, **given: str | None) -> Target | None:
    wanted = {"endpoint": None, "model": None} | given
    return targets.llm(Settings.model_validate(settings), root, **wanted)


def test_the_command_line_wins_over_settings_over_app_yaml(tmp_path: Path) -> None:
    assert llm(OFF, tmp_path) is None
    (tmp_path / "app.yaml").write_text(YAML, encoding="utf-8")
    told = llm(OFF, tmp_path)
    assert told is not None
    assert (told.url, told.model) == ("http://gpu:1234/v1/chat/completions", "qwen")
    set_ = OFF | {"llm": {"endpoint": "http://set:1/v1/chat/completions", "model": "set"}}
    assert llm(set_, tmp_path) == Target(url="http://set:1/v1/chat/completions", model="set")
    given = llm(set_, tmp_path, endpoint="http://x/v1/chat/completions", model="m")
    assert given == Target(url="http://x/v1/chat/completions", model="m")


def test_lm_studio_that_is_wanted_but_away_is_asked_all_the_same(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    settings = {"lmstudio": {"enabled": True, "home": str(tmp_path), "server": {"port": port}}}
    told = llm(settings, tmp_path)
    assert told is not None
    assert told.url == f"http://127.0.0.1:{port}/v1/chat/completions"


def test_lm_studio_that_is_not_there_is_left_out(tmp_path: Path, free_port: Callable[[], int]) -> None:
    settings = {"lmstudio": {"home": str(tmp_path), "server": {"port": free_port()}}}
    assert llm(settings, tmp_path) is None


def test_the_key_never_shows_itself() -> None:
    assert "k3y" not in repr(Target(url="http://x", model="m", key="k3y"))


@pytest.mark.parametrize(
    ("docker", "expected"),
    [
        ({"enabled": False}, None),
        ({"enabled": True, "agent_api": {"enabled": False}}, None),
        ({"enabled": True, "agent_api": {"port": 5999}}, "http://127.0.0.1:5999"),
        ({"enabled": True, "bind": "0.0.0.0"}, "http://127.0.0.1:5000"),
        ({"enabled": True, "bind": "::1"}, "http://[::1]:5000"),
    ],
)
def test_the_agent_api(docker: dict[str, Any], expected: str | None) -> None:
    assert targets.api(Settings.model_validate({"docker": docker})) == expected


def test_an_agent_api_that_may_be_there_is_asked_for_only_if_it_is(free_port: Callable[[], int]) -> None:
    assert targets.api(Settings.model_validate({"docker": {"agent_api": {"port": free_port()}}})) is None


def test_lm_studios_own_figures() -> None:
    own = targets.own_figures(Target(url="http://127.0.0.1:1234/v1/chat/completions", model="m"))
    assert own.url == "http://127.0.0.1:1234/api/v0/chat/completions"
