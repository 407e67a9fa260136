"""The services of a host, in the order in which they are brought up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calm.desired import app_yaml
from calm.desired import compose as composed
from calm.desired.build import FOLDER
from calm.desired.host import Host
from calm.desired.paths import absolute, compose_directory
from calm.desired.stack import REDIS_AUTH
from calm.settings.docker import BUILT_IN
from calm.settings.units import duration_seconds

FIRST = ("postgres", "redis", "relay", "agent-api")
"""The order of calm's own services; the user's follow, after what they depend on."""

_PATIENCE_SECONDS = 120
"""On top of what a health check itself takes to say no."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service as it should be.

    ``spec`` is the rendered Compose mapping. ``needs`` are ids of the resources that have to be right first.
    ``documents`` are paths and contents of our own files that it mounts, ``secrets`` its secrets' names,
    ``deadline`` is how long apply waits for its health, in seconds.
    """

    name: str
    container_name: str | None
    spec: Mapping[str, Any]
    stamp: str
    needs: tuple[str, ...]
    documents: Mapping[str, str]
    secrets: tuple[str, ...]
    builds: bool
    deadline: float


def services(host: Host) -> dict[str, Service]:
    """The services by their Compose names: postgres, redis, relay, agent-api, then the user's own."""
    whole = composed.compose(host)
    by_name = {name: _service(host, whole, name, spec) for name, spec in whole.services.items()}
    return {name: by_name[name] for name in _ordered(whole.services)}


def dependencies(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The services that a rendered one depends on."""
    return tuple(spec.get("depends_on") or ())


def _service(host: Host, whole: composed.Compose, name: str, spec: Mapping[str, Any]) -> Service:
    secrets = _secrets(whole, name, spec)
    documents = {path: whole.mounted[path] for path in composed.bind_sources(spec) if path in whole.mounted}
    labels = spec["labels"]
    pairs = labels if isinstance(labels, dict) else dict(label.split("=", 1) for label in labels)
    return Service(
        name=name,
        container_name=spec.get("container_name"),
        spec=spec,
        stamp=pairs[composed.STAMP],
        needs=_needs(host, whole, name, spec, secrets),
        documents=documents,
        secrets=secrets,
        builds="build" in spec,
        deadline=_deadline(spec.get("healthcheck") or {}),
    )


def _secrets(whole: composed.Compose, name: str, spec: Mapping[str, Any]) -> tuple[str, ...]:
    mounted = composed.secret_names(spec)
    given = whole.stack.api.secrets if name == "agent-api" and whole.stack.api.env_file else ()
    return tuple(dict.fromkeys([*(one for one in mounted if one != REDIS_AUTH), *given]))


def _needs(
    host: Host, whole: composed.Compose, name: str, spec: Mapping[str, Any], secrets: tuple[str, ...]
) -> tuple[str, ...]:
    documents = ["document:compose"]
    documents += ["document:redis.conf"] if name == "redis" else []
    documents += ["document:relay.py"] if name == "relay" else []
    if name == "agent-api" and "build" in spec:
        documents += context_ids(host)
    if name == "agent-api" and whole.stack.api.chain:
        documents += [f"document:{app_yaml.COPY}"]
    # A volume that may not be used stops every service: nothing is touched before that is settled.
    volumes = [f"volume:{one}" for one in whole.stack.named_volumes.values()]
    others = [f"service:{one}" for one in dependencies(spec) if one in whole.services]
    return (*documents, *(f"secret:{one}" for one in secrets), *volumes, *others)


def context_ids(host: Host) -> list[str]:
    """The ids of the documents that make up the agent API's build context."""
    from calm.desired.build import context

    return [f"document:{FOLDER}/{path}" for path in context(host.settings)]


def context_folder(host: Host) -> str:
    """Where the build context lies on the host."""
    return absolute(host, f"{compose_directory(host.settings)}/{FOLDER}")


def _ordered(specs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Ours first, then by dependency; a circle, which Compose refuses, ends in the order of the file."""
    out: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in out or name in above or name not in specs:
            return
        for dependency in dependencies(specs[name]):
            visit(dependency, (*above, name))
        out.append(name)

    for name in (*FIRST, *sorted(set(specs) - set(FIRST))):
        visit(name, ())
    return out


def _deadline(health: Mapping[str, Any]) -> float:
    def seconds(key: str, default: float) -> float:
        try:
            return duration_seconds(health.get(key, default))
        except ValueError:
            return default

    retries = int(health.get("retries", 3))
    return (
        seconds("start_period", 0)
        + retries * (seconds("interval", 30) + seconds("timeout", 30))
        + _PATIENCE_SECONDS
    )


__all__ = ["BUILT_IN", "FIRST", "Service", "context_folder", "context_ids", "dependencies", "services"]
