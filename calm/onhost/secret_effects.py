"""Secrets: made once on the host, taken over from what runs there, or given; never shown."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import stat
from typing import Any, Iterator

from calm.onhost import running
from calm.onhost.errors import RefusedError
from calm.onhost.files import Folder, look, opened, replace_file
from calm.onhost.run import Outcome, Run

FOLDER = "secrets"
FOLDER_MODE = 0o700
FILE_MODE = 0o444
"""Compose hands a secret's file into the container as it is, and redis reads it as a user of its own; the
folder is the guard."""

REDIS_PASSWORD = "redis_password"
REDIS_AUTH = "redis_auth.conf"
VARIABLES = "agent_api.env"
"""Beside the secrets: the same values as variables, for an agent API that reads nothing else."""

LENGTH = 32
"""Random bytes of a secret that is made here: 256 bits."""


def secret(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{name, value, length, rotate}``: the given value, else the one that is there, else a new one."""
    name, value = effect["name"], effect.get("value")
    if value is not None:
        run.masker.learn(value)
    with _folder(run) as (folder, put_right):
        now = _present(folder, name)
        wanted = value if value is not None else (now if now and not effect.get("rotate") else _made(effect))
        changed = _put(run, folder, name, wanted)
    return Outcome("done" if changed or put_right else "unchanged")


def take_secret(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{name, container, env, argument}``: takes over the secret that a container was given.

    It stands in the variable ``env``, in the file that ``<env>_FILE`` names, or after ``argument`` on the
    command line. A secret that is on this host already stays.
    """
    name, container = effect["name"], effect["container"]
    with _folder(run) as (folder, put_right):
        now = _present(folder, name)
        wanted = now or _of_container(run, container, effect.get("env"), effect.get("argument"))
        run.masker.learn(wanted)
        changed = _put(run, folder, name, wanted)
    return Outcome("done" if changed or put_right else "unchanged")


@contextlib.contextmanager
def _folder(run: Run) -> Iterator[tuple[Folder, bool]]:
    """The open secrets folder, for this user alone, and whether that had to be put right."""
    with opened(run.root.path, (FOLDER,), make=FOLDER_MODE) as folder:
        wrong = os.name == "posix" and stat.S_IMODE(os.stat(folder.path).st_mode) != FOLDER_MODE
        if wrong:
            folder.chmod(FOLDER_MODE)
        yield folder, wrong


def _present(folder: Folder, name: str) -> str | None:
    if not name or os.path.basename(name) != name or name.startswith("."):
        raise RefusedError(f"{name!r} is no name for a secret")
    found = look(folder, name)
    if found.status in ("folder", "other"):
        raise RefusedError(f"{os.path.join(folder.path, name)} is not a file: move it away")
    if found.status == "unreadable":
        raise RefusedError(f"no right to read {os.path.join(folder.path, name)}: run as the user who owns it")
    return (found.data or b"").decode("utf-8", "replace") or None


def _made(effect: dict[str, Any]) -> str:
    length = int(effect.get("length") or LENGTH)
    return base64.urlsafe_b64encode(os.urandom(length)).rstrip(b"=").decode()


def _put(run: Run, folder: Folder, name: str, value: str) -> bool:
    if not value or any(char < " " for char in value):
        raise RefusedError(
            f"the value for the secret {name} is empty or has a line break in it: give another"
        )
    run.masker.learn(value)
    changed = _same(folder, name, value)
    if name == REDIS_PASSWORD:
        changed = _same(folder, REDIS_AUTH, f"requirepass {running.quoted(value)}\n") or changed
    return _same(folder, VARIABLES, _variables(folder)) or changed


def _variables(folder: Folder) -> str:
    """``NAME="value"`` of each secret, as Compose reads an env_file: ``\\``, ``"`` and ``$`` escaped."""
    found = {name: look(folder, name).data for name in folder.names() if "." not in name}
    lines = []
    for name, data in sorted(found.items()):
        escaped = re.sub(r'([\\"$])', r"\\\1", (data or b"").decode("utf-8", "replace"))
        lines.append(f'{name.upper()}="{escaped}"\n')
    return "".join(lines)


def _same(folder: Folder, name: str, text: str) -> bool:
    """Writes a file of the folder unless it is so already; whether it had to."""
    found = look(folder, name)
    if found.data == text.encode() and found.mode == FILE_MODE:
        return False
    replace_file(folder, name, text.encode(), mode=FILE_MODE)
    return True


def _of_container(run: Run, container: str, env: str | None, argument: str | None) -> str:
    from calm.onhost.dockerstate import environment

    inspected = run.engine.get(f"/containers/{container}/json")
    variables = environment(inspected)
    if env and variables.get(env):
        return variables[env]
    if argument:
        value = running.argument(inspected, argument)
        if value:
            return value
    if env and variables.get(f"{env}_FILE"):
        return _file_in(run, inspected, variables[f"{env}_FILE"])
    raise RefusedError(
        f"the container {container} shows no value for it: give it in the settings (calm.secrets)"
    )


def _file_in(run: Run, inspected: dict[str, Any], path: str) -> str:
    done = run.engine.running(inspected["Id"], ["cat", path])
    if done.code != 0 or not done.out.strip():
        raise RefusedError(f"{path} in the container {inspected['Name'].lstrip('/')} cannot be read")
    return done.out.rstrip("\r\n")
