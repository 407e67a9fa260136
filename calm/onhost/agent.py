"""Reads which agent a host has. Standard library only, Python 3.9 or newer; starts nothing but ``python``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from calm.onhost.programs import on_path

LEAST = (3, 11)
NAMES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3")


def read(part: dict[str, Any], root: str) -> dict[str, Any]:
    """The agent below ``root``, and a Python that can run one.

    Returns ``{"release": hex or None, "broken": reason or None, "python": {"path", "version"} or None,
    "uv": path or None}``.
    """
    folder = os.path.join(root, part["folder"])
    installed = _installed(folder)
    return {
        "release": installed.get("release"),
        "broken": _broken(folder, installed),
        "python": _python(part.get("python")),
        "uv": on_path("uv"),
    }


def _installed(folder: str) -> dict[str, Any]:
    try:
        with open(os.path.join(folder, "installed.json"), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _broken(folder: str, installed: dict[str, Any]) -> str | None:
    if not installed:
        return None
    venv = os.path.join(folder, "venv")
    for name in ("python", "calm"):
        if not os.access(os.path.join(venv, "bin", name), os.X_OK):
            return "bin/" + name + " is missing"
    packages = os.path.join(venv, installed.get("packages", ""))
    missing = [
        name for name in installed.get("distributions", []) if not os.path.isdir(os.path.join(packages, name))
    ]
    return missing[0] + " is missing" if missing else None


def _python(named: str | None) -> dict[str, Any] | None:
    for name in [named] if named else NAMES:
        path = on_path(os.path.expanduser(name))
        version = _version(path) if path else None
        if version and version >= LEAST:
            return {"path": path, "version": ".".join(map(str, version))}
    return None


def _version(path: str) -> tuple[int, ...] | None:
    if sys.executable and os.path.realpath(path) == os.path.realpath(sys.executable):
        return sys.version_info[:3]
    code = "import sys; print(*sys.version_info[:3])"
    try:
        answer = subprocess.run([path, "-I", "-S", "-c", code], capture_output=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return tuple(int(number) for number in answer.stdout.split())
