"""Installs the agent on a host: a new environment beside the old one, then one switch of a link.

Standard library only, Python 3.9 or newer. Until the switch the old agent stays as it was; a failure or a
kill leaves it in place.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from typing import Any

from calm.onhost.programs import on_path

TIMEOUT_SECONDS = 600


class AgentError(Exception):
    """The agent could not be installed. The text says why and what to do."""


def install(effect: dict[str, Any], root: str) -> str:
    """Make ``<root>/agent/venv`` an environment with the wheel of ``effect``; returns what was done.

    ``effect``: ``folder``, ``release`` (hex), ``python`` (path), ``wheel`` {``name``, ``content`` base64},
    ``requirements`` (text with hashes), ``wheelhouse`` [{``name``, ``content``}] or absent.

    Raises:
        AgentError: no environment could be made, or the agent in it does not start.
    """
    folder = os.path.join(root, effect["folder"])
    os.makedirs(os.path.join(folder, "venvs"), mode=0o755, exist_ok=True)
    target = tempfile.mkdtemp(prefix=effect["release"][:12] + "-", dir=os.path.join(folder, "venvs"))
    os.chmod(target, 0o755)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as parcel:
            _fill(target, parcel, effect)
        version = _started(target)
        _switch(folder, target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    _note(folder, target, effect["release"])
    _sweep(folder, target)
    return "installed " + version


def remove(effect: dict[str, Any], root: str) -> str:
    """Take the agent away."""
    shutil.rmtree(os.path.join(root, effect["folder"]), ignore_errors=True)
    return "removed"


def _fill(target: str, parcel: str, effect: dict[str, Any]) -> None:
    wheel = _unpack(parcel, effect["wheel"])
    requirements = os.path.join(parcel, "requirements.txt")
    with open(requirements, "w", encoding="utf-8") as file:
        file.write(effect["requirements"])
    offline = [_unpack(parcel, item) for item in effect.get("wheelhouse") or []]
    source = ["--no-index", "--find-links", parcel] if offline else []
    uv = on_path("uv")
    if uv:
        _run([uv, "venv", "--quiet", "--allow-existing", "--python", effect["python"], target])
        pip = [uv, "pip", "install", "--quiet", "--python", os.path.join(target, "bin", "python")]
    else:
        _run([effect["python"], "-m", "venv", target])
        pip = [os.path.join(target, "bin", "python"), "-m", "pip", "install", "--quiet"]
        pip += ["--disable-pip-version-check", "--no-input"]
    _run([*pip, *source, "--require-hashes", "-r", requirements])
    _run([*pip, *source, "--no-deps", wheel])


def _unpack(folder: str, item: dict[str, str]) -> str:
    path = os.path.join(folder, os.path.basename(item["name"]))
    with open(path, "wb") as file:
        file.write(base64.b64decode(item["content"]))
    return path


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    if done.returncode == 0:
        return
    said = (done.stderr or done.stdout).strip()
    if "ensurepip" in said:
        raise AgentError("Python there has no venv module. On Debian: apt-get install python3-venv.")
    raise AgentError("The agent could not be installed: " + said[-400:])


def _started(target: str) -> str:
    done = subprocess.run(
        [os.path.join(target, "bin", "calm"), "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise AgentError("The agent was installed but does not start: " + done.stderr.strip()[-400:])
    return done.stdout.strip()


def _switch(folder: str, target: str) -> None:
    link = os.path.join(folder, "venv")
    if os.path.isdir(link) and not os.path.islink(link):
        shutil.rmtree(link)
    fresh = link + ".new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(os.path.join("venvs", os.path.basename(target)), fresh)
    os.replace(fresh, link)


def _note(folder: str, target: str, release: str) -> None:
    packages = next(
        path for path, names, _ in os.walk(target) if os.path.basename(path) == "site-packages" and names
    )
    found = {
        "release": release,
        "packages": os.path.relpath(packages, target),
        "distributions": ["calm", *_distributions(packages)],
    }
    fresh = os.path.join(folder, "installed.json.new")
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(found, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, os.path.join(folder, "installed.json"))


def _distributions(packages: str) -> list[str]:
    return sorted(name for name in os.listdir(packages) if name.endswith(".dist-info"))


def _sweep(folder: str, target: str) -> None:
    for name in os.listdir(os.path.join(folder, "venvs")):
        if name != os.path.basename(target):
            shutil.rmtree(os.path.join(folder, "venvs", name), ignore_errors=True)


EFFECTS = {"agent": install, "agent_remove": remove}
