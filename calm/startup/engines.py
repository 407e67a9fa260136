"""The Docker Engine itself: whether it answers, and how it is started where that can be done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from calm.onhost.docker_api import Engine
from calm.onhost.errors import UnavailableError
from calm.startup.gates import WELL, Look, passed
from calm.startup.model import Deadline, Status, StepError

_DESKTOP = "/mnt/c/Program Files/Docker/Docker/Docker Desktop.exe"
_WINDOWS_DESKTOP = r"C:\Program Files\Docker\Docker\Docker Desktop.exe"


def answers() -> str | None:
    """None if the engine answers, else why not, in a sentence."""
    error = _asked()
    return None if error is None else str(error)


def absent() -> bool:
    """Whether this host has no Docker at all, rather than one that does not run."""
    error = _asked()
    return error is not None and error.status == "absent"


def _asked() -> UnavailableError | None:
    try:
        Engine.found().api_version()
    except UnavailableError as error:
        return error
    return None


def start(deadline: Deadline) -> Status:
    """Starts the engine unless it answers, and waits until it does. Raises :class:`StepError`."""
    why = answers()
    if why is None:
        return Status.RUNNING
    if os.environ.get("DOCKER_HOST"):
        where = os.environ["DOCKER_HOST"]
        raise StepError(f"{why} (DOCKER_HOST is {where}: start that one, or unset it)")
    tried = [argv for argv in _ways() if _runs(argv)]
    if not tried:
        raise StepError(f"{why}. calm could not start it: {_by_hand()}")
    passed(_look, deadline, steady=0)
    return Status.STARTED


def _look() -> Look:
    why = answers()
    return WELL if why is None else Look(state="waiting", why=why)


def _ways() -> Iterator[list[str]]:
    """The commands that start an engine here; the first that works is enough."""
    if sys.platform == "darwin":
        yield ["open", "-g", "-a", "Docker"]
    elif sys.platform == "win32":
        yield ["cmd", "/c", "start", "", _WINDOWS_DESKTOP]
    elif Path("/run/systemd/system").is_dir():
        yield ["systemctl", "--no-ask-password", "start", "docker.service"]
        yield ["systemctl", "--user", "start", "docker-desktop.service"]
        yield ["systemctl", "--user", "start", "docker.service"]
    if Path(_DESKTOP).is_file():
        yield [_DESKTOP]


def _runs(argv: list[str]) -> bool:
    if answers() is None:
        return False  # an earlier way has worked already
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=90, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _by_hand() -> str:
    if sys.platform in ("darwin", "win32"):
        return "start Docker Desktop"
    return "run `sudo systemctl start docker` (or start Docker Desktop) and then `calm up` again"
