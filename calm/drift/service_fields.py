"""A service in fields that can be compared: as it is declared, and as its container has it.

Only what is declared is compared. Both sides come in the same form: sizes in bytes, spans in seconds, ports
as ``127.0.0.1:5432:5432/tcp``, one field per environment variable.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from calm.drift.model import Json
from calm.settings.units import duration_seconds, size_bytes

LIVE = ("memory", "swap", "memory_reserved", "cpus", "pids", "restart")
"""What ``docker update`` puts right on a running container."""

ENVIRONMENT = "environment."
MOUNT = "mounts."

_HEALTH_SECONDS = ("interval", "timeout", "start_period", "start_interval")
_VARIABLE = re.compile(r"(?<!\$)(?:\$\$)*\$(?!\$)")

Fields = dict[str, Json]


def declared(spec: Mapping[str, Any], *, sources: Mapping[str, str], networks: Mapping[str, str]) -> Fields:
    """The fields that a rendered service declares.

    ``sources`` are Docker's names of the volumes and the files of the secrets by their keys, ``networks``
    Docker's names of the networks. What Compose would still have to resolve (``${NAME}``, a range of ports)
    is left out.
    """
    fields: Fields = {"image": spec.get("image")} | _limits(spec) | _environment(spec)
    fields |= _command(spec) | _ports(spec) | _health(spec.get("healthcheck"))
    fields |= _mounts(spec, sources) | _networks(spec, networks) | _log(spec)
    return {path: value for path, value in fields.items() if value is not None}


def observed(container: Mapping[str, Any]) -> Fields:
    """The same fields of a container as the probe read it."""
    limits = container["limits"]
    fields: Fields = {
        "image": container["image"],
        "memory": limits["memory"],
        "swap": _swap(limits),
        "memory_reserved": limits["memory_reservation"],
        "cpus": _cpus(limits),
        "pids": max(limits["pids_limit"], 0),
        "restart": _restart(limits),
        "command": container["cmd"],
        "entrypoint": container["entrypoint"],
        "user": container["user"],
        "ports": sorted(_published(port) for port in container["ports"]),
        "networks": sorted(container["networks"]),
        "log": {"driver": container["log"]["driver"], **container["log"]["options"]},
    }
    fields |= {f"{ENVIRONMENT}{name}": value for name, value in container["env"].items()}
    fields |= {f"{MOUNT}{one['destination']}": _mount_source(one) for one in container["mounts"]}
    check = container.get("healthcheck") or {"test": ["NONE"]}
    return fields | {f"health.{key}": value for key, value in check.items()}


def _limits(spec: Mapping[str, Any]) -> Fields:
    memory, swap = _size(spec.get("mem_limit")), _size(spec.get("memswap_limit"))
    cpus = spec.get("cpus")
    return {
        "memory": memory,
        "swap": swap - memory if memory is not None and swap is not None and swap >= 0 else None,
        "memory_reserved": _size(spec.get("mem_reservation")),
        "cpus": float(cpus) if cpus is not None else None,
        "pids": spec.get("pids_limit"),
        "restart": spec.get("restart"),
    }


def _size(value: Any) -> int | None:
    try:
        return None if value is None else size_bytes(value)
    except ValueError:
        return None


def _swap(limits: Mapping[str, int]) -> int | str:
    """Docker counts memory and swap together, and writes -1 for "as much as there is"."""
    if limits["memory_swap"] < 0:
        return "unlimited"
    return max(limits["memory_swap"] - limits["memory"], 0)


def _cpus(limits: Mapping[str, int]) -> float | str:
    if limits["cpu_quota"]:
        return f"quota {limits['cpu_quota']}/{limits['cpu_period'] or 100000}"
    return limits["nano_cpus"] / 1e9


def _restart(limits: Mapping[str, Any]) -> str:
    most = limits["restart_max"]
    return f"{limits['restart']}:{most}" if most else str(limits["restart"] or "no")


def replicas(spec: Mapping[str, Any]) -> int | None:
    """How many containers a service declares; None where Compose would still have to resolve it."""
    given = spec.get("scale", (spec.get("deploy") or {}).get("replicas"))
    try:
        return 1 if given is None else max(int(given), 1)
    except (TypeError, ValueError):
        return None


def variables(spec: Mapping[str, Any]) -> set[str]:
    """The names of all variables that a service declares, those without a value of their own included."""
    return {str(entry).partition("=")[0] for entry in spec.get("environment") or ()}


def _environment(spec: Mapping[str, Any]) -> Fields:
    given = spec.get("environment") or {}
    if isinstance(given, list):
        given = dict(entry.partition("=")[::2] for entry in given if "=" in entry)
    return {
        f"{ENVIRONMENT}{name}": _plain(str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in given.items()
        if value is not None
    }


def _plain(text: str) -> str | None:
    """The text after Compose has read it; None if that depends on variables."""
    return None if _VARIABLE.search(text) else text.replace("$$", "$")


def _command(spec: Mapping[str, Any]) -> Fields:
    fields: Fields = {"user": spec.get("user") and str(spec["user"])}
    for path in ("command", "entrypoint"):
        words = spec.get(path)
        words = shlex.split(words) if isinstance(words, str) else words
        plain = [_plain(str(word)) for word in words or ()]
        fields[path] = plain if plain and None not in plain else None
    return fields


def _ports(spec: Mapping[str, Any]) -> Fields:
    ports = [_port(entry) for entry in spec.get("ports") or ()]
    return {"ports": sorted(port for port in ports if port)} if ports and None not in ports else {}


def _port(entry: Any) -> str | None:
    """One published port in the form ``address:outside:inside/protocol``."""
    if isinstance(entry, Mapping):
        outside, inside, address = entry.get("published"), entry.get("target"), entry.get("host_ip") or ""
        return f"{_bare(address)}:{outside}:{inside}/{entry.get('protocol', 'tcp')}" if outside else None
    found = re.fullmatch(r"(?:(\[.+\]|[\d.]+):)?(\d+):(\d+)(?:/(\w+))?", str(entry))
    if found is None:
        return None
    return f"{_bare(found[1] or '')}:{found[2]}:{found[3]}/{found[4] or 'tcp'}"


def _published(port: Mapping[str, Any]) -> str:
    return f"{_bare(port['host_ip'])}:{port['host_port']}:{port['container']}/{port['protocol']}"


def _bare(address: str) -> str:
    return address.strip("[]") or "0.0.0.0"


def _health(check: Mapping[str, Any] | None) -> Fields:
    if not check:
        return {}
    if check.get("disable"):
        return {"health.test": ["NONE"]}
    test = check.get("test")
    words = ["CMD-SHELL", test] if isinstance(test, str) else test
    plain = [_plain(str(word)) for word in words or ()]
    fields: Fields = {"health.test": plain if plain and None not in plain else None}
    fields |= {f"health.{key}": _seconds(check[key]) for key in _HEALTH_SECONDS if key in check}
    return fields | ({"health.retries": int(check["retries"])} if "retries" in check else {})


def _seconds(value: Any) -> float | None:
    try:
        return duration_seconds(value)
    except ValueError:
        return None


def _mounts(spec: Mapping[str, Any], sources: Mapping[str, str]) -> Fields:
    fields: Fields = {}
    for one in spec.get("volumes") or ():
        if isinstance(one, Mapping) and one.get("type") in ("bind", "volume"):
            fields[f"{MOUNT}{one['target']}"] = sources.get(one.get("source", ""), one.get("source"))
    for secret in spec.get("secrets") or ():
        name = secret if isinstance(secret, str) else secret["source"]
        fields[f"{MOUNT}/run/secrets/{name}"] = sources.get(name)
    return fields


def _mount_source(mount: Mapping[str, Any]) -> Json:
    return mount["name"] if mount["type"] == "volume" else mount["source"]


def _networks(spec: Mapping[str, Any], networks: Mapping[str, str]) -> Fields:
    if spec.get("network_mode"):
        return {"networks": [spec["network_mode"]]} if spec["network_mode"] in ("host", "none") else {}
    return {"networks": sorted(networks.get(name, name) for name in spec.get("networks") or ())}


def _log(spec: Mapping[str, Any]) -> Fields:
    logging = spec.get("logging")
    return {"log": {"driver": logging["driver"], **(logging.get("options") or {})}} if logging else {}
