"""What a run was made on and with: enough to say whether two can be compared, and nothing private.

A document with it can be shared: no secret, no path, no URL, no host name.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from calm.bench.model import Workload
from calm.bench.stream import Target
from calm.llm.chain import LOOPBACK
from calm.settings import Settings
from calm.settings.dump import RAW, to_json

TIMEOUT = 3.0
_PRIVATE = re.compile(r"^[~/\\]|^[A-Za-z]:\\|://|@")


def fingerprint(
    settings: Settings, workload: Workload, target: Target | None, *, host: bool = False
) -> dict[str, Any]:
    """Workload, model, server, settings and machine; ``host`` adds the machine's name."""
    values = settings_values(settings)
    model, server = _server(target) if target else (None, None)
    return {
        "workload": workload.described(),
        "model": model,
        "server": server,
        "settings": {"digest": digest(values), "values": values},
        "machine": machine() | ({"host": platform.node()} if host else {}),
        "calm": version("calm-stack"),
    }


def settings_values(settings: Settings) -> dict[str, Any]:
    """The settings by dotted path, so that two runs' can be told apart.

    Users' raw keys, paths and URLs are digests: that they changed shows, what they say does not.
    """
    whole = to_json(settings)
    flat = dict(_flat("", whole))
    return {path: _shown(path, value) for path, value in flat.items() if path != "root"}


def machine() -> dict[str, Any]:
    """The hardware and system, without a name."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cpus": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
    }


def digest(value: Any) -> str:
    """A short hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def _flat(path: str, value: Any) -> Any:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), inner)
    else:
        yield path, value


def _shown(path: str, value: Any) -> Any:
    raw = any(path.startswith(".".join(prefix)) for prefix in RAW)
    texts = value if isinstance(value, list) else [value]
    private = any(isinstance(text, str) and _PRIVATE.search(text) for text in texts)
    return f"#{digest(value)[:8]}" if value not in (None, [], {}) and (raw or private) else value


def _cpu() -> str | None:
    """The processor's name; Linux tells it in a file alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or None


def _server(target: Target) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the server tells of the model, and what kind of server it is."""
    url = urlsplit(target.url)
    base = f"{url.scheme}://{url.netloc}"
    headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}
    with httpx.Client(base_url=base, timeout=TIMEOUT, trust_env=False, headers=headers) as client:
        is_lmstudio = _asked(client, "/lmstudio-greeting").get("lmstudio") is True
        told = _model(client, target.model) if is_lmstudio else {}
    server = {
        "kind": "lmstudio" if is_lmstudio else "openai-compatible",
        "path": url.path,
        "local": url.hostname in LOOPBACK,
    }
    return {"id": target.model} | told, server


def _model(client: httpx.Client, name: str) -> dict[str, Any]:
    """Quantization, context, parallel slots: of ``/api/v1/models`` (0.4.0 and later), else of v0."""
    for model in _entries(_asked(client, "/api/v1/models"), "models"):
        loaded = _entries(model, "loaded_instances")
        if name in (model.get("key"), *(each.get("id") for each in loaded)) or (
            loaded and name == "local-model"
        ):
            config = loaded[0].get("config") if loaded else None
            config = config if isinstance(config, Mapping) else {}
            quantization = model.get("quantization")
            return {
                "key": model.get("key"),
                "architecture": model.get("architecture"),
                "quantization": quantization.get("name")
                if isinstance(quantization, Mapping)
                else quantization,
                "context_length": config.get("context_length"),
                "parallel": config.get("parallel"),
            }
    for model in _entries(_asked(client, "/api/v0/models"), "data"):
        if model.get("id") == name or (model.get("state") == "loaded" and name == "local-model"):
            return {
                "key": model.get("id"),
                "architecture": model.get("arch"),
                "quantization": model.get("quantization"),
                "context_length": model.get("loaded_context_length"),
                "parallel": None,
            }
    return {}


def _asked(client: httpx.Client, path: str) -> Mapping[str, Any]:
    try:
        body = client.get(path).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return body if isinstance(body, Mapping) else {}


def _entries(body: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    listed = body.get(key)
    return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
