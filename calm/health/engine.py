"""The way to the Docker engine: where it is, and why it cannot be reached."""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calm.health.model import Docker

if TYPE_CHECKING:
    from docker import APIClient


def connect(*, timeout: int = 5) -> APIClient:
    """A client of the engine that ``docker`` itself would use: ``DOCKER_HOST``, else the current context.

    Clients are kept for the life of the process. Raises ``docker.errors.DockerException`` if nothing answers.
    """
    return _client(address(), timeout)


@lru_cache(maxsize=8)
def _client(where: str | None, timeout: int) -> APIClient:
    from docker import APIClient
    from docker.utils import kwargs_from_env

    # A socket of this machine is behind no proxy; looking through the environment costs 1 ms a question.
    options: Any = kwargs_from_env() if os.environ.get("DOCKER_HOST") else {"base_url": where}
    client = APIClient(version="auto", timeout=timeout, **options)
    client.trust_env = not client.base_url.startswith("http+docker://")
    return client


def address() -> str | None:
    """Where the engine is, or ``None`` for the platform's default."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    from docker.context import ContextAPI
    from docker.errors import DockerException

    try:
        context = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT"))
    except (DockerException, OSError, ValueError):
        return None
    return context.Host if context else None


def unreachable(error: Exception) -> Docker:
    """What is to be said about an engine that did not answer."""
    path = _socket_path()
    if path is not None and path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return _no("denied", f"this user may not use {path}: join the group docker, or run as root")
    if path is not None and not path.exists() and shutil.which("docker") is None:
        return _no("absent", "Docker is not installed: there is neither a docker command nor a socket")
    return _no("down", f"the Docker engine does not answer ({type(error).__name__}): is it running?")


def _no(status: str, error: str) -> Docker:
    return Docker(reachable=False, status=status, error=error)


def _socket_path() -> Path | None:
    where = address() or ("npipe://" if os.name == "nt" else "unix:///var/run/docker.sock")
    scheme, _, path = where.partition("://")
    return Path(path) if scheme in ("unix", "http+unix") else None
