"""Stops LM Studio for a change of its files, and starts it again as it was.

It keeps its settings in memory and writes them all when it quits, so a change lasts only if it is made while
LM Studio does not run. It is asked to quit, never killed: what it does not save it would lose.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import Any

from calm.onhost import lmstudio as reader
from calm.onhost.errors import RefusedError
from calm.onhost.lock import started
from calm.onhost.run import Outcome, Run

DEADLINE_SECONDS = 60.0
PAUSE_SECONDS = 0.1
STEADY_SECONDS = 0.5


def lmstudio(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{action: "stop"|"start", home, executables, deadline_s}``: for the LM Studio of that home alone."""
    home = reader.find_home(effect.get("home"))
    extra = [*(effect.get("executables") or ()), *reader.installed(home)]
    deadline_s = float(effect.get("deadline_s") or DEADLINE_SECONDS)
    if effect["action"] == "stop":
        return _stop(run, home, extra, deadline_s)
    if effect["action"] == "start":
        return _start(run, home, extra, deadline_s)
    raise RefusedError(f"calm does not know how to {effect['action']} LM Studio")


def _stop(run: Run, home: str, extra: list[str], deadline_s: float) -> Outcome:
    roots = _instances(home, extra)
    if not roots:
        return Outcome("unchanged", "LM Studio does not run")
    births = {one.pid: started(one.pid) for one in roots}
    run.notes["lmstudio"] = [_launch(one) for one in roots]
    for pid, birth in births.items():
        _ask_to_quit(pid, birth)
    deadline = time.monotonic() + deadline_s
    while any(started(pid) == birth for pid, birth in births.items()):
        if time.monotonic() > deadline:
            raise RefusedError(
                f"LM Studio did not quit within {deadline_s:g} s: its files are as they were;"
                " quit it by hand and apply again"
            )
        time.sleep(PAUSE_SECONDS)
    return Outcome("done")


def _ask_to_quit(pid: int, birth: str | None) -> None:
    """The process is looked at once more right before: its number may be another's by now."""
    if birth is not None and started(pid) == birth:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _start(run: Run, home: str, extra: list[str], deadline_s: float) -> Outcome:
    if _instances(home, extra):
        return Outcome("unchanged", "LM Studio runs")
    launches = run.notes.get("lmstudio") or _installed(home)
    if not launches:
        raise RefusedError("LM Studio did not say where it is installed: start it by hand")
    processes = [_launched(one) for one in launches]
    deadline = time.monotonic() + deadline_s
    while not _stays(home, extra):
        if time.monotonic() > deadline or all(one.poll() is not None for one in processes):
            raise RefusedError("LM Studio did not start again: start it by hand")
        time.sleep(PAUSE_SECONDS)
    return Outcome("done")


def _stays(home: str, extra: list[str]) -> bool:
    """Whether it runs and has not given up a moment later."""
    if not _instances(home, extra):
        return False
    time.sleep(STEADY_SECONDS)
    return bool(_instances(home, extra))


def _instances(home: str, extra: list[str]) -> list[reader.Process]:
    found = reader.instances(home, extra)
    if found is None:
        raise RefusedError(
            "the processes of this host cannot be listed: quit LM Studio by hand and apply again"
        )
    return found


def _launch(process: reader.Process) -> dict[str, Any]:
    """How a process was started. An AppImage's program lies in a mount that goes when it ends."""
    environ = reader.environment(process.pid)
    image = environ.get("APPIMAGE") if "/.mount_" in process.executable else None
    how: dict[str, Any] = {"argv": [image or process.executable], "env": environ or None}
    with contextlib.suppress(OSError):
        with open(f"/proc/{process.pid}/cmdline", encoding="utf-8", errors="surrogateescape") as file:
            how["argv"] += file.read().split("\0")[1:-1]
        how["cwd"] = os.readlink(f"/proc/{process.pid}/cwd")
        found = os.stat(f"/proc/{process.pid}")
        how["user"], how["group"] = found.st_uid, found.st_gid
    return how


def _installed(home: str) -> list[dict[str, Any]]:
    """The app if it is there, else the daemon: their noted locations may be stale."""
    there = [one for one in reader.locations(home) if os.access(one["path"], os.X_OK)]
    return [{**one, "argv": [one["path"], *map(str, one.get("argv") or ())]} for one in there[:1]]


def _launched(how: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Starts a program on its own, as its user, so that it lives on without us."""
    options: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
    if os.name == "posix" and os.getuid() == 0 and how.get("user"):
        options.update(user=how["user"], group=how["group"], extra_groups=[])
    return subprocess.Popen(
        how["argv"],
        cwd=how.get("cwd") if os.path.isdir(how.get("cwd") or "") else None,
        env=how.get("env"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )
