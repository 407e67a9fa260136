"""Who is asked and for how long, as app.yaml says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

DEFAULTS: Mapping[str, tuple[str, str]] = {
    "lmstudio": ("http://127.0.0.1:1234/v1/chat/completions", "local-model"),
    "ollama": ("http://127.0.0.1:11434/v1/chat/completions", "llama3.2"),
    "gemini": (
        "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        "gemini-2.5-flash",
    ),
}
"""End point and model of providers that app.yaml gives none.

https://lmstudio.ai/docs/app/api, https://docs.ollama.com/openai, https://ai.google.dev/gemini-api/docs/openai
"""

NEED_KEYS = ("gemini",)
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")


class ConfigError(Exception):
    """app.yaml cannot be used; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """An OpenAI-compatible end point for chat; ``key`` goes there and nowhere else."""

    name: str
    model: str
    endpoint: str
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Who is asked, in order, and how long each may take. Times are seconds."""

    providers: tuple[Provider, ...]
    request_timeout: float = 30.0
    connection_pool_size: int = 5
    max_retries: int = 2
    retry_backoff: float = 1.0

    @property
    def provider_seconds(self) -> float:
        """The longest that one provider can take."""
        pauses = self.retry_backoff * ((1 << self.max_retries) - 1)
        return self.request_timeout * (self.max_retries + 1) + pauses

    @property
    def worst_case_seconds(self) -> float:
        """The longest that a caller can wait."""
        return self.provider_seconds * len(self.providers)


def read(path: Path, *, secrets: Path | None = None, base_url: str | None = None) -> Chain:
    """The chain of the app.yaml at ``path``; raises ``ConfigError``.

    Keys come from ``<NAME>_API_KEY_FILE``, ``/run/secrets``, the folder ``secrets`` or ``<NAME>_API_KEY``.
    In a container ``base_url`` names the host (``http://host.docker.internal:1234/v1``): end points on
    127.0.0.1 are meant to be there.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(f"{path} is not YAML") from None
    section = document.get("llm") if isinstance(document, Mapping) else None
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path} has no section llm")
    return chain_of(section, secrets=secrets, base_url=base_url)


def chain_of(
    section: Mapping[str, Any], *, secrets: Path | None = None, base_url: str | None = None
) -> Chain:
    """The chain of a section ``llm``; a provider that stands there twice is asked once."""
    if section.get("enabled") is False:
        raise ConfigError("llm.enabled is false in app.yaml: nobody is to be asked")
    entries = [section, *(section.get("fallbacks") or ())]
    if not all(isinstance(entry, Mapping) for entry in entries):
        raise ConfigError("llm.fallbacks must be a list of mappings with a provider each")
    providers = [_provider(entry, secrets, base_url) for entry in entries]
    return Chain(
        providers=tuple(dict.fromkeys(providers)),
        request_timeout=_number(section, "request_timeout", 30.0, least=0.001),
        connection_pool_size=int(_number(section, "connection_pool_size", 5, least=1)),
        max_retries=int(_number(section, "max_retries", 2)),
        retry_backoff=_number(section, "retry_backoff_ms", 1000) / 1000,
    )


def key_of(provider: str, secrets: Path | None) -> str | None:
    """The key of a provider, ``None`` if there is none."""
    name = f"{provider.replace('-', '_')}_api_key"
    named = os.environ.get(f"{name.upper()}_FILE")
    files = [Path(named)] if named else []
    files += [Path("/run/secrets") / name] + ([secrets / name] if secrets else [])
    for file in files:
        try:
            return file.read_text(encoding="utf-8").strip() or None
        except OSError:
            continue
    return os.environ.get("LM_API_TOKEN" if provider == "lmstudio" else name.upper())


def _provider(entry: Mapping[str, Any], secrets: Path | None, base_url: str | None) -> Provider:
    name = str(entry.get("provider") or "lmstudio")
    endpoint, model = DEFAULTS.get(name, (None, None))
    endpoint, model = entry.get("endpoint") or endpoint, entry.get("model") or model
    if not endpoint:
        raise ConfigError(f"llm: the provider {name} needs an endpoint in app.yaml")
    return Provider(
        name=name,
        model=str(model or "local-model"),
        endpoint=seen_from(str(endpoint), base_url),
        key=key_of(name, secrets),
    )


def seen_from(endpoint: str, base_url: str | None) -> str:
    """``endpoint`` as a container reaches it, if ``base_url`` says how the host is called there."""
    url = httpx.URL(endpoint)
    if base_url is None or url.host not in LOOPBACK:
        return endpoint
    return str(url.copy_with(host=httpx.URL(base_url).host))


def _number(section: Mapping[str, Any], key: str, default: float, *, least: float = 0) -> float:
    value = section.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
        raise ConfigError(f"llm.{key} must be a number from {least:g} on, not {value!r}")
    return float(value)
