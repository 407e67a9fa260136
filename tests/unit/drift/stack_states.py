"""A host that runs the stack as calm has made it, for tests: the probe's state, written from the settings.

The containers are built from the rendered Compose file the way Docker Engine 26 and Compose 2.26 build
them, and not by the code under test.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from calm.desired.compose import compose
from calm.desired.documents import owned
from calm.drift import host as drift
from calm.drift import services, volumes
from calm.drift.model import Context
from calm.drift.running_values import wanted
from calm.settings import Settings
from calm.settings.units import size_bytes
from tests.unit.drift import states

GATEWAY = "172.17.0.1"
STAMPED = "sha256:" + "1" * 64


def settings(**docker: Any) -> Settings:
    """Settings with an agent API that is an image, so that no build context takes part."""
    base = {"agent_api": {"image": "example/agent-api:1"}}
    return Settings.model_validate({"docker": drift.merged(base, docker), "schedules": {"backend": "none"}})


def engine(**changes: Any) -> dict[str, Any]:
    """An engine that answers."""
    return {
        "command": "/usr/bin/docker",
        "socket": "/var/run/docker.sock",
        "status": "answers",
        "error": None,
        "version": "26.1.5",
        "api": "1.45",
        "compose": "2.26.1",
        "desktop": False,
        "rootless": False,
        "cpus": 4,
        "memory_bytes": 16 * 1024**3,
        "cgroup": "2",
        "swap_limit": True,
        "gateway": GATEWAY,
        **changes,
    }


def bare(wanted_settings: Settings | None = None, **state: Any) -> Context:
    """A host with an engine and nothing on it."""
    return Context(
        settings=wanted_settings or settings(),
        state={**states.empty(), "docker": engine(), **state},
        record={},
        secrets={},
        digest_key=states.DIGEST_KEY,
    )


def converged(wanted_settings: Settings | None = None, **state: Any) -> Context:
    """A host after an apply with these settings, and the record of that apply."""
    first = bare(wanted_settings, **state)
    named = {name: _volume(first) for name in compose(first).stack.named_volumes.values()}
    network = compose(first).stack.network.name
    containers = [*_containers(first), *first.state["containers"]]
    after = {
        **first.state,
        "files": {one.id: states.file(one.path, one.content, mode=one.mode) for one in owned(first)},
        "secrets": _secrets(),
        "volumes": named,
        "networks": {network: _network(first, containers)},
        "containers": containers,
        "images": {spec["image"]: STAMPED for spec in compose(first).services.values()},
        "image_env": {STAMPED: {"PATH": "/usr/bin"}},
        "running": _running(first.settings),
        "ports": {},
    }
    there = Context(**{**vars(first), "state": after})
    return Context(**{**vars(there), "record": _record(there)})


def changed(context: Context, **changes: Any) -> Context:
    """The same with other settings, state, record or secrets; its state may be changed freely."""
    whole = {**vars(context), **changes}
    return Context(**{**whole, "state": copy.deepcopy(whole["state"])})


def container(context: Context, service: str) -> dict[str, Any]:
    """The container of a service in a context's state, to be changed."""
    found = next(one for one in context.state["containers"] if one["service"] == service)
    assert isinstance(found, dict)
    return found


def _record(context: Context) -> dict[str, Any]:
    documents = {
        one.id: {
            "path": one.path,
            "sha256": hashlib.sha256(one.content.encode()).hexdigest(),
            "mode": one.mode,
        }
        for one in owned(context)
    }
    parts = (services.compare(context).record, volumes.compare(context).record)
    return drift.merged({"schema": 1, "documents": documents}, drift.merged(*parts))


def _containers(context: Context) -> Iterator[dict[str, Any]]:
    whole = compose(context)
    for number, (name, spec) in enumerate(whole.services.items(), start=1):
        yield _container(context, number, name, spec)


def _container(context: Context, number: int, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    stack = compose(context).stack
    own = {
        "com.docker.compose.project": stack.project,
        "com.docker.compose.service": name,
        "com.docker.compose.project.working_dir": stack.directory,
    }
    return {
        "id": f"{number:064x}",
        "name": spec.get("container_name") or f"{stack.project}-{name}-1",
        "image": spec["image"],
        "image_id": STAMPED,
        "created": "2025-11-03T09:00:00Z",
        "started_at": "2025-11-03T09:00:01Z",
        "state": "running",
        "health": "healthy" if "healthcheck" in spec else None,
        "exit_code": 0,
        "oom_killed": False,
        "restarts": 0,
        "labels": {**own, **{key: str(value) for key, value in spec["labels"].items()}},
        "service": name,
        "project": stack.project,
        "env": {
            "PATH": "/usr/bin",
            **{key: _text(value) for key, value in spec.get("environment", {}).items()},
        },
        "cmd": [word.replace("$$", "$") for word in spec.get("command") or ["run"]],
        "entrypoint": spec.get("entrypoint") or ["docker-entrypoint.sh"],
        "user": spec.get("user", ""),
        "working_dir": "",
        "limits": _limits(spec),
        "cgroup_memory": size_bytes(spec["mem_limit"]) if "mem_limit" in spec else None,
        "mounts": list(_mounts(stack, spec)),
        "networks": _networks(stack, spec),
        "network_mode": spec.get("network_mode", stack.network.name),
        "ports": [_port(entry) for entry in spec.get("ports", ())],
        "healthcheck": _healthcheck(spec.get("healthcheck")),
        "log": {
            "driver": spec.get("logging", {}).get("driver", "json-file"),
            "options": spec.get("logging", {}).get("options", {}),
        },
    }


def _network(context: Context, containers: list[dict[str, Any]]) -> dict[str, Any]:
    labels = {"calm.project": context.settings.docker.project}
    return {"id": "n1", "labels": labels, "containers": sorted(one["name"] for one in containers)}


def _text(value: Any) -> str:
    return str(value).replace("$$", "$")


def _limits(spec: Mapping[str, Any]) -> dict[str, Any]:
    restart, _, most = str(spec.get("restart", "no")).partition(":")
    return {
        "memory": size_bytes(spec.get("mem_limit", 0)),
        "memory_swap": size_bytes(spec.get("memswap_limit", 0)),
        "memory_reservation": size_bytes(spec.get("mem_reservation", 0)),
        "nano_cpus": int(spec.get("cpus", 0) * 1_000_000_000),
        "cpu_quota": 0,
        "cpu_period": 0,
        "pids_limit": spec.get("pids_limit", 0),
        "restart": restart,
        "restart_max": int(most or 0),
    }


def _mounts(stack: Any, spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for one in spec.get("volumes", ()):
        name = stack.named_volumes.get(one["source"]) if one["type"] == "volume" else None
        source = f"/var/lib/docker/volumes/{name}/_data" if name else one["source"]
        yield _mount(one["type"], name, source, one["target"], rw=not one.get("read_only"))
    for secret in spec.get("secrets", ()):
        yield _mount("bind", None, stack.secret_files[secret], f"/run/secrets/{secret}", rw=False)


def _mount(kind: str, name: str | None, source: str, destination: str, *, rw: bool) -> dict[str, Any]:
    return {"type": kind, "name": name, "source": source, "destination": destination, "rw": rw}


def _networks(stack: Any, spec: Mapping[str, Any]) -> dict[str, Any]:
    if "network_mode" in spec:
        return {spec["network_mode"]: {"aliases": [], "ip": None}}
    names = (
        stack.network.name if key == "agent-network" else f"{stack.project}_{key}" for key in spec["networks"]
    )
    return {name: {"aliases": [], "ip": "172.18.0.2"} for name in names}


def _port(short: str) -> dict[str, Any]:
    *address, outside, inside = short.split(":")
    host_ip = ":".join(address).strip("[]")
    return {"container": int(inside), "protocol": "tcp", "host_ip": host_ip, "host_port": int(outside)}


def _healthcheck(check: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if check is None:
        return None
    spans = ("interval", "timeout", "start_period", "start_interval")
    seconds = {key: float(check.get(key, "0s").removesuffix("s")) for key in spans}
    test = [word.replace("$$", "$") for word in check["test"]]
    return {"test": test, "retries": check["retries"], **seconds}


def _secrets() -> dict[str, Any]:
    names = ("postgres_password", "redis_password", "jwt_secret")
    values = {
        name: {
            "status": "file",
            "mode": "0444",
            "digest": hashlib.sha256(name.encode()).hexdigest(),
            "bytes": 43,
        }
        for name in names
    }
    return {"status": "folder", "folder_mode": "0700", "folder_uid": 1000, "values": values}


def _volume(context: Context) -> dict[str, Any]:
    return {
        "exists": True,
        "labels": {"calm.project": context.settings.docker.project},
        "mountpoint": "/var/lib/docker/volumes/x/_data",
        "pg_version": None,
    }


def _running(wanted_settings: Settings) -> dict[str, Any]:
    return {
        service: {
            "parameters": {name: value.text for name, value in wanted(wanted_settings, service).items()}
        }
        for service in ("redis", "postgres")
    }
