"""The reference agent API obeys app.yaml: who answers, and what plan and apply do about an edit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.conftest import Build
from tests.integration.stack import Stack
from tests.lab import paced
from tests.lab.lmstudio import LMStudio, wait_until
from tests.lab.paced import Pace, Paced
from tests.lab.ports import free_ports

pytestmark = pytest.mark.engine

APP, COPY = "document:app.yaml", "document:agent/app.yaml"
KEY = "gm-not-to-be-seen"


@pytest.fixture(scope="module")
def ollama() -> Iterator[Paced]:
    with paced.running(Pace(first=0.01, gap=0.001, tokens=6)) as server:
        yield server


@pytest.fixture(scope="module")
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def stack(build: Build, port: int, ollama: Paced, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A converged host whose app.yaml lies elsewhere, is its owner's alone, and was there before calm."""
    app_yaml = tmp_path_factory.mktemp("application") / "app.yaml"
    whole = {
        "evaluation": {"password": "hunter2"},
        "llm": {"provider": "lmstudio", "model": "google/gemma-3-1b"},
    }
    app_yaml.write_text(yaml.safe_dump(whole))
    app_yaml.chmod(0o600)
    key = app_yaml.with_name("gemini")
    key.write_text(KEY)
    stack = build(
        "chain",
        docker={"agent_api": {"image": None}},
        lmstudio={"server": {"port": port}},
        secrets={"gemini_api_key": {"file": str(key)}},
        llm={
            "app_yaml": str(app_yaml),
            "endpoint": f"http://127.0.0.1:{port}/v1/chat/completions",
            "request_timeout": 5,
            "max_retries": 1,
            "retry_backoff_ms": 10,
            # Nobody is asked beyond this machine: an end point of its own, which refuses.
            "fallbacks": [
                {"provider": "gemini", "endpoint": ollama.url("401")},
                {"provider": "ollama", "endpoint": ollama.url()},
            ],
        },
    )
    LMStudio.install(stack.home, port=port)
    stack.apply()
    return stack


def app_yaml(stack: Stack) -> Path:
    return Path(stack.settings["llm"]["app_yaml"])


def chat(stack: Stack) -> dict[str, Any]:
    """What the API answers to a message in a new session."""
    url = f"http://127.0.0.1:{stack.ports['agent-api']}/api/chat"
    answer = httpx.post(url, json={"message": "안녕하세요"}, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_chat_reaches_lm_studio_on_127_0_0_1_through_the_relay(stack: Stack, port: int) -> None:
    with LMStudio(user_home=stack.home, version="0.4.7", generation="new", form="app", port=port) as studio:
        studio.start()
        told = chat(stack)
    assert (told["provider"], told["tried"]) == ("lmstudio", [])
    assert told["answer"]


def test_without_lm_studio_the_declared_fallback_answers(stack: Stack, ollama: Paced) -> None:
    told = chat(stack)
    assert told["provider"] == "ollama"
    assert [each["provider"] for each in told["tried"]] == ["lmstudio", "gemini"]
    assert "401" in told["tried"][1]["error"], "it has a key, and was asked"
    assert ollama.exchanges[-1].path == "/v1/chat/completions"


def test_a_second_apply_changes_nothing_and_the_key_and_other_sections_are_not_shown(stack: Stack) -> None:
    before, files = stack.alive(), stack.files()
    assert "0 changed" in stack.apply().out
    assert (stack.alive(), stack.files()) == (before, files)
    inside = stack.docker("exec", stack.name("agent-api"), "cat", "/run/agent/app.yaml")
    assert "hunter2" not in inside
    assert KEY not in f"{inside}{stack.inspect('agent-api')}"
    assert app_yaml(stack).stat().st_mode & 0o777 == 0o600


def test_an_edit_of_the_section_is_drift_and_mended_without_a_restart(stack: Stack, ollama: Paced) -> None:
    running, text = stack.alive(), app_yaml(stack).read_text()
    app_yaml(stack).write_text(text.replace(ollama.url(), ollama.url("500")))
    assert set(stack.pending()) == {APP}
    stack.apply()
    assert app_yaml(stack).read_text() == text

    app_yaml(stack).write_text(text.replace("google/gemma-3-1b", "of-my-own").replace("hunter2", "hunter3"))
    assert set(stack.pending()) == {COPY}, "calm declares no model: app.yaml is right, the API's copy is old"
    stack.apply()
    assert "of-my-own" in stack.docker("exec", stack.name("agent-api"), "cat", "/run/agent/app.yaml")
    assert stack.plan().code == 0
    assert stack.alive() == running


def test_a_setting_holds_from_the_next_chat_on(stack: Stack, ollama: Paced) -> None:
    running = stack.alive()
    stack.settings["llm"]["fallbacks"] = [{"provider": "other", "endpoint": ollama.url(), "model": "m-2"}]
    stack.write()
    assert {APP, COPY} <= set(stack.pending())
    stack.apply()
    wait_until(lambda: chat(stack)["provider"] == "other", "the API still asks whom it asked before")
    assert ollama.exchanges[-1].model == "m-2"
    assert stack.alive()[stack.name("agent-api")] == running[stack.name("agent-api")]


def test_a_section_that_cannot_be_used_fails_the_chat_alone(stack: Stack) -> None:
    text = app_yaml(stack).read_text()
    app_yaml(stack).write_text(text.replace("llm:\n", "llm:\n  enabled: false\n"))
    stack.apply()
    url = f"http://127.0.0.1:{stack.ports['agent-api']}/api"
    answer = httpx.post(f"{url}/chat", json={"message": "x"}, timeout=60, trust_env=False)
    assert (answer.status_code, "enabled is false" in answer.json()["error"]) == (503, True)
    assert httpx.get(f"{url}/health", timeout=10, trust_env=False).status_code == 200
    app_yaml(stack).write_text(text)
    stack.apply()
