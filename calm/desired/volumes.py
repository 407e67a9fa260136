"""Where the data of postgres and redis lies, or will lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calm.desired import old_stack
from calm.desired.host import Host

TARGETS = {"postgres": "/var/lib/postgresql/data", "redis": "/data"}
"""The services with data, and where their images keep it."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A named volume, or a ``folder`` of the host that a stack which was taken over uses instead.

    ``origin`` says how it was found: ``settings``, ``record``, ``container`` or ``default``.
    """

    service: str
    name: str
    folder: str | None
    origin: str


def source(host: Host, service: str) -> Source:
    """The one that the settings name, else the one used before, else the container's, else a new one."""
    named = getattr(host.settings.docker.volumes, service)
    if named:
        return Source(service=service, name=named, folder=None, origin="settings")
    return _recorded(host, service) or _mounted(host, service) or _default(host, service)


def default_name(project: str, service: str) -> str:
    """The name of a volume that nobody has named."""
    return f"{project}_{service}_data"


def image_major(image: str) -> str | None:
    """The major version of postgres in an image's name; None if its name does not tell."""
    found = re.search(r"(?:^|/)postgres(?:ql)?:v?(\d+)", image)
    return found[1] if found else None


def pgdata(host: Host) -> str:
    """The folder of the database inside the container: the one in use if it lies on the volume."""
    target = TARGETS["postgres"]
    container = old_stack.container(host, "postgres") or {}
    recorded = (host.record.get("services") or {}).get("postgres") or {}
    candidates = [
        (recorded.get("fields") or {}).get("environment.PGDATA"),
        (container.get("env") or {}).get("PGDATA"),
    ]
    return next((str(one) for one in candidates if isinstance(one, str) and one.startswith(target)), target)


def _recorded(host: Host, service: str) -> Source | None:
    for name, entry in (host.record.get("volumes") or {}).items():
        if isinstance(entry, Mapping) and entry.get("service") == service:
            return Source(service=service, name=name, folder=entry.get("folder"), origin="record")
    return None


def _mounted(host: Host, service: str) -> Source | None:
    container = old_stack.container(host, service)
    mounts: list[Mapping[str, Any]] = list((container or {}).get("mounts") or ())
    for mount in mounts:
        if mount["destination"].rstrip("/") == TARGETS[service]:
            folder = mount["source"] if mount["type"] == "bind" else None
            return Source(
                service=service, name=mount.get("name") or mount["source"], folder=folder, origin="container"
            )
    return None


def _default(host: Host, service: str) -> Source:
    name = default_name(host.settings.docker.project, service)
    return Source(service=service, name=name, folder=None, origin="default")
