"""What the probe says of a host, for tests: a host with nothing on it, and files as they lie there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from calm.drift.merge import joined
from calm.drift.model import Context
from calm.onhost.masking import Masker
from calm.settings import Settings

DIGEST_KEY = "5a" * 32
ROOT = "/home/ada/calm"


def context(
    settings: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    *,
    record: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Context:
    """A context whose state is that of an empty host with ``state`` over it."""
    return Context(
        settings=Settings.model_validate(settings or {}),
        state=joined(empty(), state or {}),
        record=record or {},
        secrets=secrets or {},
        digest_key=DIGEST_KEY,
    )


def empty() -> dict[str, Any]:
    """The answer of the probe on a host with nothing of ours and no docker."""
    return {
        "schema": 1,
        "host": {"system": "Linux", "home": "/home/ada", "user": "ada", "uid": 1000, "gid": 1000, "cpus": 4},
        "root": {"path": ROOT, "status": "absent", "disk_free_bytes": 10**11},
        "files": {},
        "record": None,
        "secrets": {"folder_mode": None, "folder_uid": None, "status": "absent", "values": {}},
        "docker": {"status": "absent", "command": None, "socket": None, "desktop": False},
        "containers": [],
        "volumes": {},
        "networks": {},
        "images": {},
        "image_env": {},
        "ports": {},
        "running": {},
        "lmstudio": {"status": "absent"},
        "compose_file": None,
    }


def absent(path: str, *, parent_exists: bool = True) -> dict[str, Any]:
    """A path with nothing there."""
    return {**_entry(path, "absent"), "parent_exists": parent_exists}


def file(path: str, text: str, *, mode: str = "0644", uid: int = 1000) -> dict[str, Any]:
    """A file as the probe reads it: secrets masked, the hash that of the bytes as they are."""
    content, originals = Masker(DIGEST_KEY).text(text)
    return {
        **_entry(path, "file"),
        "mode": mode,
        "uid": uid,
        "gid": uid,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "content": content,
        "masked": bool(originals),
    }


def odd(path: str, status: str) -> dict[str, Any]:
    """Something at the path that is no readable file."""
    return _entry(path, status)


def _entry(path: str, status: str) -> dict[str, Any]:
    return {
        "path": path,
        "status": status,
        "mode": None,
        "uid": None,
        "gid": None,
        "sha256": None,
        "content": None,
        "masked": False,
        "writable": True,
        "parent_exists": True,
    }
