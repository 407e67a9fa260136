"""How an LM Studio was started, so that it can be started the same way again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A program with its arguments, folder and environment, and whose it is. ``None``: as calm's own."""

    argv: Sequence[str]
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    uid: int | None = None
    gid: int | None = None

    def start(self) -> int:
        """Start it on its own, so that it lives on without calm; its process number.

        Raises ``OSError`` with the reason in words.
        """
        process = subprocess.Popen(
            list(self.argv),
            cwd=self.cwd if self.cwd and Path(self.cwd).is_dir() else None,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=True,
            **_apart(self),
        )
        return process.pid


def remembered(pid: int) -> Launch:
    """How the running process ``pid`` was started; to be read before it is ended.

    An AppImage's executable lies in a mount that goes with it: there the AppImage itself is started again.
    """
    handle = psutil.Process(pid)
    env = _allowed(handle.environ)
    argv = handle.cmdline() or [handle.exe()]
    program = (env or {}).get("APPIMAGE") if "/.mount_" in handle.exe() else None
    uid, gid = _owner(handle)
    return Launch(
        argv=[program or handle.exe(), *argv[1:]], cwd=_allowed(handle.cwd), env=env or None, uid=uid, gid=gid
    )


def installed(home: Path) -> Launch | None:
    """How LM Studio says that it is to be started: the app, else the daemon; only what is really there.

    A stale ``llmster-install-location.json`` outlives the program that it names.
    """
    for name in ("app-install-location.json", "llmster-install-location.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads((home / ".internal" / name).read_text(encoding="utf-8"))
            if Path(found["path"]).is_file():
                return Launch(argv=[found["path"], *map(str, found.get("argv") or ())], cwd=found.get("cwd"))
    return None


def _owner(handle: psutil.Process) -> tuple[int | None, int | None]:
    """Whose it is, where that is somebody else than us and we may become them."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None, None
    uid, gid = handle.uids().real, handle.gids().real
    return (None, None) if uid == 0 else (uid, gid)


def _apart(launch: Launch) -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    options: dict[str, Any] = {"start_new_session": True}
    if launch.uid is not None:
        options |= {"user": launch.uid, "group": launch.gid, "extra_groups": []}
    return options


def _allowed(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except (psutil.Error, OSError):
        return None
