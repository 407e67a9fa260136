"""The chain that app.yaml describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calm.llm import Chain, ConfigError, chain_of, read
from calm.llm.chain import seen_from

YAML = """
corrections: {enabled: true}
llm:
  provider: lmstudio
  model: qwen
  request_timeout: 20
  connection_pool_size: 3
  max_retries: 1
  retry_backoff_ms: 500
  fallbacks:
    - provider: gemini
    - {provider: ollama, model: tiny, endpoint: "http://localhost:9/v1/chat/completions"}
"""


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GEMINI_API_KEY_FILE", "LM_API_TOKEN", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_keys")
def test_the_section_is_read_with_the_defaults_of_each_provider(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(YAML, encoding="utf-8")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "gemini_api_key").write_text("k-1\n", encoding="utf-8")
    chain = read(tmp_path / "app.yaml", secrets=tmp_path / "secrets")
    assert [(each.name, each.model) for each in chain.providers] == [
        ("lmstudio", "qwen"), ("gemini", "gemini-2.5-flash"), ("ollama", "tiny"),
    ]  # fmt: skip
    assert chain.providers[0].endpoint == "http://127.0.0.1:1234/v1/chat/completions"
    assert [each.key for each in chain.providers] == [None, "k-1", None]
    assert "k-1" not in repr(chain)
    assert (chain.request_timeout, chain.connection_pool_size, chain.max_retries) == (20, 3, 1)
    assert chain.worst_case_seconds == 3 * (20 * 2 + 0.5)


def test_a_named_file_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("from-file\n", encoding="utf-8")
    monkeypatch.setenv("GEMINI_API_KEY", "from-environment")
    assert chain_of({"provider": "gemini"}).providers[0].key == "from-environment"
    monkeypatch.setenv("GEMINI_API_KEY_FILE", str(tmp_path / "key"))
    assert chain_of({"provider": "gemini"}).providers[0].key == "from-file"


@pytest.mark.usefixtures("no_keys")
def test_who_stands_there_twice_is_asked_once() -> None:
    chain = chain_of({"fallbacks": [{"provider": "ollama"}, {"provider": "lmstudio"}]})
    assert [each.name for each in chain.providers] == ["lmstudio", "ollama"]


@pytest.mark.parametrize(
    ("endpoint", "base_url", "expected"),
    [
        ("http://127.0.0.1:1234/v1", None, "http://127.0.0.1:1234/v1"),
        ("http://localhost:9/v1", "http://host.docker.internal:1234/v1", "http://host.docker.internal:9/v1"),
        ("http://gpu:1234/v1", "http://host.docker.internal:1234/v1", "http://gpu:1234/v1"),
    ],
)
def test_a_container_looks_for_the_host(endpoint: str, base_url: str | None, expected: str) -> None:
    assert seen_from(endpoint, base_url) == expected


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"enabled": False}, "enabled is false"),
        ({"provider": "local_proxy"}, "local_proxy needs an endpoint"),
        ({"request_timeout": "30"}, "llm.request_timeout must be a number"),
        ({"max_retries": True}, "llm.max_retries must be a number"),
        ({"connection_pool_size": 0}, "from 1 on"),
        ({"fallbacks": ["gemini"]}, "list of mappings"),
        ({"fallbacks": "gemini"}, "list of mappings"),
    ],
)
def test_what_cannot_be_used_is_said(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        chain_of(section)


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("a: [", "is not YAML"), ("a: 1", "no section llm"), ("", "no section")],
)
def test_a_file_that_is_none(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "app.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read(tmp_path / "app.yaml")


def test_the_defaults_are_those_of_the_settings() -> None:
    from calm.settings.llm import LLM

    settings, chain = LLM(), Chain(providers=())
    for name in ("request_timeout", "connection_pool_size", "max_retries"):
        assert getattr(chain, name) == getattr(settings, name)
    assert chain.retry_backoff * 1000 == settings.retry_backoff_ms
