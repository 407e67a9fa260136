"""Whom a benchmark asks when nobody says it: what app.yaml, the settings and LM Studio's own files name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from calm.bench.stream import Target
from calm.health import endpoints, home
from calm.llm import ConfigError, Provider, read
from calm.settings import Settings

CHAT = "/v1/chat/completions"
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def llm(settings: Settings, root: Path, *, endpoint: str | None, model: str | None) -> Target | None:
    """The language model to measure; ``None`` where there is none and nobody asked for one.

    The first that says it counts: the command line, the settings, app.yaml's first provider, LM Studio.
    """
    wanted = _lmstudio(settings)
    if first := _app_yaml(settings, root):
        wanted = Target(url=first.endpoint, model=first.model, key=first.key)
    if url := endpoint or settings.llm.endpoint:
        kept = wanted if wanted and wanted.url == url else None
        wanted = kept or Target(url=url, model="local-model", key=os.environ.get("LM_API_TOKEN"))
    if wanted is None:
        return None
    return replace(wanted, model=model or settings.llm.model or wanted.model)


def own_figures(target: Target) -> Target:
    """Where LM Studio answers the same request with its own figures (lmstudio.ai/docs, REST API v0)."""
    base, _, _ = target.url.partition("/v1/")
    return replace(target, url=f"{base}/api/v0/chat/completions")


def api(settings: Settings) -> str | None:
    """The agent API's base URL; ``None`` where the settings have none."""
    docker = settings.docker
    if docker.enabled is False or not docker.agent_api.enabled:
        return None
    host = ANY.get(docker.bind, docker.bind)
    base = f"http://{f'[{host}]' if ':' in host else host}:{docker.agent_api.port}"
    if docker.enabled == "auto" and endpoints.http("agent-api", f"{base}/api/health").latency_ms is None:
        return None
    return base


def _app_yaml(settings: Settings, root: Path) -> Provider | None:
    path = root / Path(settings.llm.app_yaml).expanduser()
    if not path.is_file():
        return None
    try:
        return read(path, secrets=root / "secrets").providers[0]
    except ConfigError:
        return None


def _lmstudio(settings: Settings) -> Target | None:
    """LM Studio with the model that it has loaded, else with whatever it takes for an unknown name."""
    if settings.lmstudio.enabled is False:
        return None
    found = home.read(home.find(settings.lmstudio.home), default_port=settings.lmstudio.server.port)
    if found.url is None:
        return None
    answers, told = endpoints.lmstudio(found.url)
    if settings.lmstudio.enabled == "auto" and not found.exists and not answers.ok:
        return None
    loaded = told.models_loaded or ()
    name = loaded[0].id if loaded else "local-model"
    return Target(url=f"{found.url}{CHAT}", model=name, key=os.environ.get("LM_API_TOKEN"))
