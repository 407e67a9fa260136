"""What of app.yaml the reference agent API is given."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from calm.desired import app_yaml, build
from calm.desired.compose import compose
from calm.desired.documents import owned
from calm.desired.services import services
from calm.drift.model import Context
from calm.settings import Settings
from tests.unit.drift import states
from tests.unit.drift.stack_states import bare, changed
from tests.unit.drift.stack_states import settings as with_an_image

PATH = "/home/ada/calm/app.yaml"
FOUND = {"status": "found", "generation": "new"}
MINE = """\
corrections: {password: hunter2, at: !local x}
llm:
  enabled: true
  provider: local_proxy
  model: qwen
  endpoint: http://localhost:8080/v1/chat/completions
  api_key: not-for-a-file-that-all-can-read
  request_timeout: 7
  fallbacks:
    - {provider: ollama, model: tiny, note: mine}
"""


def host(text: str | None = MINE, **llm: Any) -> Context:
    wanted = Settings.model_validate({"schedules": {"backend": "none"}, "llm": llm})
    entry = states.absent(PATH) if text is None else states.file(PATH, text)
    return bare(wanted, files={app_yaml.ID: entry}, lmstudio=FOUND)


def given(of: Context) -> dict[str, Any]:
    document = next(one for one in owned(of) if one.id == "document:agent/app.yaml")
    assert (document.path, document.mode) == ("/home/ada/calm/docker/agent/app.yaml", "0644")
    assert document.needs == (app_yaml.ID,)
    whole = yaml.safe_load(document.content)
    assert list(whole) == ["llm"]
    return dict(whole["llm"])


def test_the_copy_is_what_the_client_reads_as_it_is_after_an_apply() -> None:
    assert given(host(request_timeout=30)) == {
        "enabled": True, "provider": "local_proxy", "model": "qwen",
        "endpoint": "http://localhost:8080/v1/chat/completions",
        "request_timeout": 30, "connection_pool_size": 5, "max_retries": 2, "retry_backoff_ms": 1000,
        "fallbacks": [{"provider": "gemini"}, {"provider": "ollama", "model": "tiny"}],
    }  # fmt: skip


@pytest.mark.parametrize("text", [None, "", "evaluation: {depth: 3}\n", "llm: [\n", "- llm\n"])
def test_without_a_section_it_is_the_one_that_apply_makes(text: str | None) -> None:
    section = given(host(text))
    assert (section["provider"], section["endpoint"]) == (
        "lmstudio",
        "http://127.0.0.1:1234/v1/chat/completions",
    )


def test_an_edit_of_another_section_changes_nothing_and_one_of_the_model_makes_no_new_container() -> None:
    first, other = host(), host(MINE.replace("hunter2", "hunter3"))
    assert [one.content for one in owned(first)] == [one.content for one in owned(other)]
    edited = host(MINE.replace("qwen", "llama"))
    assert given(edited)["model"] == "llama"
    assert services(edited)["agent-api"].stamp == services(first)["agent-api"].stamp


def test_the_folder_is_mounted_and_has_to_be_there_first() -> None:
    api = services(host())["agent-api"]
    assert {"document:agent/app.yaml", "document:agent_api/agent_api/llm/chain.py"} <= set(api.needs)
    (mount,) = api.spec["volumes"]
    assert (mount["source"], mount["target"]) == ("/home/ada/calm/docker/agent", "/run/agent")
    assert mount["read_only"]
    assert api.spec["environment"]["APP_YAML"] == "/run/agent/app.yaml"


def test_an_api_of_the_users_own_gets_none() -> None:
    own = bare(with_an_image(), lmstudio=FOUND)
    assert "document:agent/app.yaml" not in [one.id for one in owned(own)]
    assert "volumes" not in services(own)["agent-api"].spec
    assert compose(own).services["relay"]["command"] == ["172.17.0.1", "1234"]


def test_the_relay_passes_on_to_every_local_provider() -> None:
    assert compose(host()).services["relay"]["command"] == ["172.17.0.1", "1234", "8080", "11434"]
    away = host("llm: {provider: x, endpoint: 'http://gpu:80/v1', fallbacks: []}", fallbacks=[])
    assert compose(away).services["relay"]["command"] == ["172.17.0.1", "1234"]


@pytest.mark.parametrize("url", ["http://[::1/v1", "http://127.0.0.1:99999/v1", "no url"])
def test_an_end_point_that_is_none_is_passed_over(url: str) -> None:
    assert app_yaml.local_ports(host(f"llm: {{endpoint: '{url}', fallbacks: []}}", fallbacks=[])) == []


def test_the_context_of_the_reference_api_has_calms_own_client() -> None:
    files = build.context(changed(host()).settings)
    assert files["agent_api/llm/chain.py"] == (build.CLIENT / "chain.py").read_text(encoding="utf-8")
    assert {"Dockerfile", "agent_api/app.py"} < set(files)
