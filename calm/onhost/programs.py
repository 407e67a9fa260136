"""Where programs lie on a host. ``shutil`` would cost a host 10 ms: it brings along all kinds of archives."""

from __future__ import annotations

import os
from typing import Iterable, Mapping


def docker_command(environ: Mapping[str, str] = os.environ) -> str | None:
    """The ``docker`` command, where it is usually put if not on the PATH."""
    return which("docker", environ)


def which(name: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The path of a command; a short PATH, as a login without a shell has it, is completed."""
    usual = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin", "/opt/homebrew/bin"]
    return on_path(name, environ) or _among(usual, name)


def on_path(name: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The path of a command of the PATH; a ``name`` that is a path itself may be anywhere."""
    if os.path.dirname(name):
        return _among([os.curdir], name)
    return _among(environ.get("PATH", os.defpath).split(os.pathsep), name)


def _among(folders: Iterable[str], name: str) -> str | None:
    endings = ("", ".exe") if os.name == "nt" else ("",)
    for folder in folders:
        for ending in endings:
            path = os.path.join(folder, name + ending)
            if folder and os.access(path, os.X_OK) and not os.path.isdir(path):
                return path
    return None
