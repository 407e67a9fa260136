"""Reads all that a plan needs of a host, in one run. Writes nothing, changes nothing, returns no secret."""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import Any, Callable

from calm.onhost import host, lock
from calm.onhost.errors import place_of
from calm.onhost.files import Root, look, opened, present
from calm.onhost.masking import Masker
from calm.onhost.run import secrets as values_of
from calm.onhost.together import started

COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
"""In the order in which Compose looks for its file."""

RECORD_PARTS = ("documents", "docker", "schedules", "secrets", "services", "settings", "volumes")
"""What has to be an object in a record, where it is there at all."""

PARTS = {
    "agent": "calm.onhost.agent",
    "healing": "calm.onhost.findings",
    "schedules": "calm.onhost.schedules",
}
"""Further parts of the request, each read by the ``read(part, root)`` of its module."""


def main(request: dict[str, Any]) -> int:
    """Prints the answer as one line of JSON. A probe that cannot answer says so there, too."""
    try:
        answer = read(request)
    except Exception as error:
        answer = {"schema": 1, "error": f"the probe failed ({place_of(error)}): please report this"}
    sys.stdout.write(json.dumps(answer, separators=(",", ":")) + "\n")
    sys.stdout.flush()
    return 0


def read(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request; see `entry` for a document and `dockerstate.begin` for what Docker knows."""
    root = Root(request["root"])
    masker = Masker(request.get("digest_key"))
    docker_part = request.get("docker") or {}
    record = _record(root)
    # Docker's commands in containers take longest: they run while the rest is read.
    docker_said = _docker(docker_part, masker, root, record["record"] or {})
    found = started(
        {"host": lambda: host.read(request.get("commands") or ()), "parts": lambda: _parts(request, root)}
    )
    secrets = _secrets(root, request.get("secrets") or (), masker)
    files = {
        "root": {"path": root.path, "status": root.status(), "disk_free_bytes": host.disk_free(root.path)},
        "files": {name: entry(root, masker, spec["path"]) for name, spec in _documents(request).items()},
        **record,
        "lock": lock.seen(root),
        "secrets": secrets,
        "lmstudio": _lmstudio(request, root, masker),
        "compose_file": _compose_file(root, masker, docker_part.get("directory")),
    }
    docker = docker_said()
    ports = host.ports(docker_part.get("ports") or (), docker.pop("published", {}))
    rest = found()
    return {"schema": 1, "host": rest["host"], **files, "ports": ports, **docker, **rest["parts"]}


def _docker(
    part: dict[str, Any], masker: Masker, root: Root, record: dict[str, Any]
) -> Callable[[], dict[str, Any]]:
    """What Docker knows, asked for, not yet waited for; by now the masker knows the containers' secrets."""
    if not part or part.get("enabled") is False:
        from calm.onhost import dockerless

        return dockerless.nothing
    from calm.onhost import dockerstate

    kept = values_of(root, ("redis_password", "postgres_password"))
    passwords = {server: kept.get(f"{server}_password", "") for server in ("redis", "postgres")}
    plugin = (record.get("docker") or {}).get("compose_plugin")
    return dockerstate.begin(part, masker, passwords, plugin if isinstance(plugin, dict) else {})


def _documents(request: dict[str, Any]) -> dict[str, Any]:
    return request.get("documents") or {}


def _parts(request: dict[str, Any], root: Root) -> dict[str, Any]:
    out = {}
    for name, module in PARTS.items():
        if request.get(name) is not None:
            __import__(module)  # importlib itself would cost a host 5 ms
            out[name] = sys.modules[module].read(request[name], root.path)
    return out


def entry(root: Root, masker: Masker, path: str) -> dict[str, Any]:
    """A document as it is now: status, mode, owner, hash, and its content with secrets masked."""
    found = present(root, path)
    absolute = os.path.normpath(os.path.join(root.path, os.path.expanduser(path)))
    folder = os.path.dirname(absolute)
    content, masked = _content(found.data, masker)
    return {
        "path": absolute,
        "status": found.status,
        "mode": None if found.mode is None else f"{found.mode:04o}",
        "uid": found.found.st_uid if found.found else None,
        "gid": found.found.st_gid if found.found else None,
        "sha256": found.sha256,
        "content": content,
        "masked": masked,
        "target": found.target,
        "writable": os.access(folder, os.W_OK | os.X_OK),
        "parent_exists": os.path.isdir(folder),
    }


def _content(data: bytes | None, masker: Masker) -> tuple[str | None, bool]:
    try:
        text = None if data is None else data.decode("utf-8")
    except UnicodeDecodeError:
        return None, False
    if text is None:
        return None, False
    masked, originals = masker.text(text)
    return masked, bool(originals)


def _record(root: Root) -> dict[str, Any]:
    found = present(root, "record.json")
    if found.status == "absent" or found.data == b"":
        return {"record": None, "record_error": None}
    try:
        record = json.loads(found.data or b"")
    except ValueError:
        record = None
    if _is_record(record):
        return {"record": record, "record_error": None}
    reason = "is no record of calm's" if found.status == "file" else f"is {found.status.replace('_', ' ')}"
    return {"record": None, "record_error": f"{os.path.join(root.path, 'record.json')} {reason}"}


def _is_record(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(found.get(part) or {}, dict) for part in RECORD_PARTS)


def _secrets(root: Root, names: Any, masker: Masker) -> dict[str, Any]:
    """The secrets' digests. The masker learns all values that lie there, whoever put them."""
    nothing = {"folder_mode": None, "folder_uid": None, "status": "absent"}
    try:
        with opened(root.path, ("secrets",)) as folder:
            found = os.stat(folder.path)
            about = {"folder_mode": f"{stat.S_IMODE(found.st_mode):04o}", "folder_uid": found.st_uid}
            values = {name: _secret(look(folder, name), masker) for name in {*names, *folder.names()}}
    except OSError as error:
        status = "absent" if isinstance(error, FileNotFoundError) else "unreadable"
        absent = {"status": status, "mode": None, "digest": None, "bytes": None}
        return {**nothing, "status": status, "values": dict.fromkeys(names, absent)}
    return {**about, "status": "folder", "values": {name: values[name] for name in names}}


def _secret(found: Any, masker: Masker) -> dict[str, Any]:
    text = (found.data or b"").decode("utf-8", "replace")
    masker.learn(text)
    status = found.status if found.status in ("absent", "file") else "other"
    return {
        "status": status,
        "mode": None if found.mode is None else f"{found.mode:04o}",
        "digest": masker.digest(text) if status == "file" else None,
        "bytes": len(found.data) if found.data is not None else None,
    }


def _lmstudio(request: dict[str, Any], root: Root, masker: Masker) -> dict[str, Any] | None:
    part = request.get("lmstudio")
    if part is None or part.get("enabled") is False:
        return None
    from calm.onhost import lmstudio

    return lmstudio.read(part, lambda path: entry(root, masker, path))


def _compose_file(root: Root, masker: Masker, directory: str | None) -> dict[str, Any] | None:
    """The Compose file of a stack that is taken over, and the one that Compose would lay over it."""
    if not directory:
        return None
    folder = os.path.realpath(os.path.expanduser(directory))
    for name in COMPOSE_NAMES:
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            return entry(root, masker, path)
    return None
