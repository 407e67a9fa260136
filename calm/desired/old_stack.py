"""A stack that somebody made by hand and calm takes over: its file, its containers, its data.

Everything is read from what is on the host, so that each later plan comes to the same desired state: the
services that calm does not know stay in a file beside ours, the rest in our containers and in the record.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from calm.desired import engine
from calm.desired.host import Host
from calm.desired.paths import COMPOSE_FILE, EXTRA_FILE, in_compose_directory
from calm.settings.docker import BUILT_IN

MARK = "# Written by calm."
"""How our own Compose file begins."""

WORKING_FOLDER = "com.docker.compose.project.working_dir"
NETWORK = "agent-network"
OUR_LABEL = "calm.project"
EXTRA = "document:compose-extra"


def is_present(host: Host) -> bool:
    """Whether there is a Compose file in ``docker.directory`` that calm has not written."""
    return _by_hand(host) is not None


def file_name(host: Host) -> str | None:
    """The name of that Compose file."""
    entry = _by_hand(host)
    return posixpath.basename(str(entry["path"]).replace("\\", "/")) if entry else None


def path(host: Host) -> str:
    """The path of that Compose file."""
    entry = _by_hand(host)
    assert entry is not None
    return str(entry["path"])


def document(host: Host) -> Mapping[str, Any] | None:
    """That Compose file, parsed, its secrets masked; None if it is no mapping with services."""
    entry = _by_hand(host)
    try:
        whole = yaml.safe_load((entry or {}).get("content") or "")
    except yaml.YAMLError:
        return None
    return whole if isinstance(whole, dict) and isinstance(whole.get("services"), dict) else None


def project(host: Host) -> str:
    """Compose's name for the stack: that of the containers in ``docker.directory``, else of the settings."""
    docker = host.settings.docker
    if docker.directory is None:
        return docker.project
    recorded = host.record.get("docker") or {}
    if recorded.get("directory") == docker.directory:
        return str(recorded["project"])
    named = sorted(one["project"] for one in containers(host) if one.get("project"))
    written = (document(host) or {}).get("name")
    return str(named[0] if named else written or docker.project)


def containers(host: Host) -> Iterator[Mapping[str, Any]]:
    """The containers that Compose made from a file in ``docker.directory``, ours among them."""
    folders = {host.settings.docker.directory, posixpath.dirname((_file(host) or {}).get("path") or "")}
    for container in host.state.get("containers") or ():
        if (container.get("labels") or {}).get(WORKING_FOLDER) in folders:
            yield container


def container(host: Host, service: str) -> Mapping[str, Any] | None:
    """The container of a service, of ours or of the old stack."""
    settings = host.settings.docker
    name = f"{settings.project}-{ {'agent-api': 'api'}.get(service, service) }"
    found: list[Mapping[str, Any]] = list(host.state.get("containers") or ())
    named = [one for one in found if one["name"] == name]
    compose = project(host)
    return next(iter(named), next((one for one in found if _is_service(one, compose, service)), None))


def _is_service(container: Mapping[str, Any], compose: str, service: str) -> bool:
    return (container.get("project"), container.get("service")) == (compose, service)


def unknown(host: Host) -> dict[str, Any]:
    """The services of the old file that are neither calm's nor retired nor declared in the settings."""
    settings = host.settings.docker
    known = {*BUILT_IN, "relay", *settings.retired, *settings.services}
    taken = {f"{settings.project}-{end}" for end in ("postgres", "redis", "relay", "api")}
    services = (document(host) or {}).get("services") or {}
    return {
        name: spec
        for name, spec in services.items()
        # One under the name of a container of ours is what ours takes the place of.
        if name not in known and (spec or {}).get("container_name") not in taken
    }


def extra(host: Host) -> str | None:
    """The text of the file for the unknown services, secrets masked; None if there are none."""
    old = document(host)
    services = unknown(host)
    if old is None or not services:
        return None
    # What ours declares, too, must not be declared twice; Compose refuses that.
    shared = {"networks": {NETWORK}, "volumes": {"postgres_data", "redis_data"}}
    kept: dict[str, Any] = {"services": services}
    for section in ("networks", "volumes", "configs", "secrets"):
        declared = old.get(section) or {}
        used = {key: value for key, value in declared.items() if key not in shared.get(section, ())}
        kept |= {section: used} if used else {}
    head = "# Services of the stack that was here before calm, as they were. This file is yours.\n"
    return head + yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def extra_services(host: Host) -> Mapping[str, Any]:
    """The carried services: those to carry now, or those of the file that is there."""
    if is_present(host):
        return unknown(host)
    try:
        whole = yaml.safe_load((host.state["files"].get(EXTRA) or {}).get("content") or "")
    except yaml.YAMLError:
        return {}
    services = whole.get("services") if isinstance(whole, dict) else None
    return services if isinstance(services, dict) else {}


def joined_networks(host: Host) -> tuple[str, ...]:
    """The further networks that our services join, so that the carried ones still reach them."""
    names: set[str] = set()
    for spec in extra_services(host).values():
        if isinstance(spec, dict) and "network_mode" not in spec:
            names |= set(spec.get("networks") or ("default",))
    return tuple(sorted(names - {NETWORK}))


def network_name(host: Host) -> str:
    """Docker's name of the network that the services share."""
    recorded = host.record.get("docker") or {}
    if host.settings.docker.directory and recorded.get("directory") == host.settings.docker.directory:
        return str(recorded["network"])
    old = ((document(host) or {}).get("networks") or {}).get(NETWORK) or {}
    return str(old.get("name") or f"{project(host)}_{NETWORK}")


def network_is_ours(host: Host, name: str) -> bool:
    """Whether calm has made that network, or will; one that was there before calm is left alone."""
    if host.state["docker"]["status"] != "answers":
        return bool((host.record.get("docker") or {}).get("network_is_ours", True))
    there = (host.state.get("networks") or {}).get(name)
    return there is None or (there.get("labels") or {}).get(OUR_LABEL) == host.settings.docker.project


def record(host: Host) -> dict[str, Any]:
    """What later plans have to know when the old file and containers are gone, or the engine is down."""
    network = network_name(host)
    return {
        "directory": host.settings.docker.directory,
        "project": project(host),
        "network": network,
        "network_is_ours": network_is_ours(host, network),
        "engine": dict(engine.facts(host)),
        "compose_plugin": engine.compose_plugin(host),
    }


def requested(host_settings: Any) -> dict[str, str]:
    """The paths that the probe has to read for this, by id."""
    return {EXTRA: in_compose_directory(host_settings, EXTRA_FILE)} if host_settings.docker.directory else {}


def _file(host: Host) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = host.state.get("compose_file")
    return found if host.settings.docker.directory else None


def _by_hand(host: Host) -> Mapping[str, Any] | None:
    entry = _file(host)
    if not entry or entry["status"] != "file" or not (entry.get("content") or "").strip():
        return None
    recorded = (host.record.get("documents") or {}).get("document:compose") or {}
    written = entry["content"].startswith(MARK) or recorded.get("path") == entry["path"]
    return None if written else entry


__all__ = ["COMPOSE_FILE", "EXTRA", "MARK", "NETWORK", "OUR_LABEL"]
