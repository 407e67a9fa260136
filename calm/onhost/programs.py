"""Where programs lie on a host."""

from __future__ import annotations

import os
from typing import Mapping


def docker_command(environ: Mapping[str, str] = os.environ) -> str | None:
    """The ``docker`` command, where it is usually put if not on the PATH."""
    return which("docker", environ)


def which(name: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The path of a command; a short PATH, as a login without a shell has it, is completed."""
    usual = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin", "/opt/homebrew/bin"]
    endings = ("", ".exe") if os.name == "nt" else ("",)
    for folder in [*environ.get("PATH", "").split(os.pathsep), *usual]:
        for ending in endings:
            path = os.path.join(folder, name + ending)
            if folder and os.access(path, os.X_OK) and not os.path.isdir(path):
                return path
    return None
