"""What the Docker Engine of a host can do, and the least that calm needs of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from calm.desired.host import Host

LEAST_ENGINE = (20, 10)
"""Docker Engine; it knows ``host-gateway`` since then."""

LEAST_COMPOSE = (2, 20)
"""Docker Compose; ``include`` came with it."""

START_INTERVAL_API = (1, 44)
"""The first Engine API with a health check's start interval (Docker Engine 25)."""


def version(text: str | None) -> tuple[int, ...]:
    """``(26, 1, 5)`` from ``26.1.5+dfsg1``; empty for what holds no version."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text or "")
    return tuple(int(part) for part in found[1].split(".")) if found else ()


FACTS = ("api", "cpus", "gateway", "desktop", "rootless")
"""What the rendered files depend on."""


def facts(host: Host) -> Mapping[str, Any]:
    """``FACTS`` of the engine; while it does not answer those of the last apply, so that nothing changes."""
    docker: Mapping[str, Any] = host.state["docker"]
    if docker["status"] == "answers":
        return {name: docker.get(name) for name in FACTS}
    recorded: Mapping[str, Any] = (host.record.get("docker") or {}).get("engine") or {}
    return recorded


def compose_plugin(host: Host) -> Mapping[str, Any] | None:
    """The file of the Compose plugin and its version: the probe asks only one that is new to it."""
    found: Mapping[str, Any] | None = host.state["docker"].get("compose_plugin")
    return found or (host.record.get("docker") or {}).get("compose_plugin")


def has_start_interval(docker: Mapping[str, Any]) -> bool:
    """Whether health checks may have a start interval; an engine that is not there counts as a new one."""
    return not docker.get("api") or version(docker["api"]) >= START_INTERVAL_API
