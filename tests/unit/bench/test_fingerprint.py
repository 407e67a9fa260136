"""Fingerprints tell what matters and nothing private."""

from __future__ import annotations

import json
import platform

import httpx
import pytest

from calm.bench import fingerprint as prints
from calm.bench.model import Workload
from calm.bench.stream import Target
from calm.settings import Settings


def test_settings_are_shown_but_for_what_is_private() -> None:
    settings = Settings.model_validate(
        {
            "root": "/home/somebody/calm",
            "llm": {"endpoint": "http://gpu.internal:1234/v1/chat/completions"},
            "docker": {
                "redis": {"memory": "1G"},
                "directory": "/srv/somebody",
                "agent_api": {"environment": {"API_TOKEN": "s3cret", "CUSTOMER": "acme"}},
                "services": {"web": {"environment": ["TEAM=blue"]}},
            },
        }
    )
    values = prints.settings_values(settings)
    text = json.dumps(values)
    for private in ("somebody", "gpu.internal", "s3cret", "acme", "blue"):
        assert private not in text
    assert values["docker.redis.memory"] == "1G"
    assert "root" not in values
    assert values["docker.directory"].startswith("#")


def test_what_is_hidden_still_shows_that_it_has_changed() -> None:
    one, two = (
        prints.settings_values(Settings.model_validate({"docker": {"directory": folder}}))
        for folder in ("/a", "/b")
    )
    assert one["docker.directory"] != two["docker.directory"]
    assert {path for path in one if one[path] != two[path]} == {"docker.directory"}


def test_the_host_is_named_only_when_asked() -> None:
    found = prints.fingerprint(Settings(), Workload(), None)
    assert "host" not in found["machine"]
    assert prints.fingerprint(Settings(), Workload(), None, host=True)["machine"]["host"] == platform.node()
    assert found["machine"]["cpus"] >= 1
    assert (found["model"], found["server"]) == (None, None)


V1 = {
    "models": [
        {
            "key": "qwen", "architecture": "qwen3", "quantization": {"name": "Q4_K_M"},
            "loaded_instances": [{"id": "qwen:2", "config": {"context_length": 4096, "parallel": 4}}],
        }
    ]
}  # fmt: skip
V0 = {
    "data": [
        {"id": "old", "arch": "llama", "quantization": "Q8", "state": "loaded", "loaded_context_length": 8}
    ]
}


@pytest.mark.parametrize(
    ("name", "answers", "expected"),
    [
        ("qwen", {"/api/v1/models": V1}, ("qwen", "Q4_K_M", 4096, 4)),
        ("qwen:2", {"/api/v1/models": V1}, ("qwen", "Q4_K_M", 4096, 4)),
        ("local-model", {"/api/v1/models": V1}, ("qwen", "Q4_K_M", 4096, 4)),
        ("old", {"/api/v0/models": V0}, ("old", "Q8", 8, None)),
        ("other", {"/api/v1/models": V1, "/api/v0/models": V0}, None),
        ("qwen", {"/api/v1/models": {"models": "odd"}}, None),
    ],
)
def test_what_lm_studio_tells_of_a_model(
    name: str, answers: dict[str, object], expected: tuple[object, ...] | None
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        # LM Studio answers what it does not know with a good status.
        return httpx.Response(200, json=answers.get(request.url.path, {"error": "Unexpected endpoint"}))

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://x") as client:
        told = prints._model(client, name)
    keys = ("key", "quantization", "context_length", "parallel")
    assert (tuple(told[key] for key in keys) if told else None) == expected


def test_a_server_that_is_away_leaves_a_fingerprint_all_the_same(free_port: object) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1/chat/completions"  # type: ignore[operator]
    found = prints.fingerprint(Settings(), Workload(), Target(url=url, model="m"))
    assert found["model"] == {"id": "m"}
    assert found["server"] == {"kind": "openai-compatible", "path": "/v1/chat/completions", "local": True}
