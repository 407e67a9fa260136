"""Where things lie on a host. Paths are the host's own, which need not be this machine's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calm.desired.host import Host

if TYPE_CHECKING:
    from calm.settings import Settings

COMPOSE_FILE = "docker-compose.yml"
EXTRA_FILE = "docker-compose.extra.yml"
"""The services of a stack that was taken over and that calm does not know, as they were."""


def root(state: Mapping[str, Any]) -> str:
    """calm's folder, as the probe resolved it."""
    return str(state["root"]["path"])


def compose_directory(settings: Settings) -> str:
    """The folder of the Compose file: relative to the root, absolute, or below ``~``."""
    return settings.docker.directory or "docker"


def in_compose_directory(settings: Settings, name: str) -> str:
    """A file beside the Compose file, as the probe's request names it."""
    return f"{compose_directory(settings).rstrip('/')}/{name}"


def absolute(host: Host, path: str) -> str:
    """``path`` of a request as an absolute one on the host."""
    if path.startswith("~/"):
        return f"{host.state['host']['home'].rstrip('/')}/{path[2:]}"
    return path if re.match(r"/|[A-Za-z]:[\\/]", path) else f"{root(host.state)}/{path}"


def secret_path(host: Host, name: str) -> str:
    """The file of a secret on the host."""
    return f"{root(host.state)}/secrets/{name}"
