"""One run at a time changes a host.

Two locks of different length. The *lease* ``<root>/.lock.json`` says who changes this host until when; each
effect renews it, and an owner on this machine that has died frees it at once. While an effect runs, the root
itself is locked by the operating system, which frees it even after ``kill -9``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from typing import Any, Iterator

from calm.onhost.errors import RefusedError
from calm.onhost.files import Root, look, opened, replace_file

NAME = ".lock.json"
LEASE_SECONDS = 120.0
PATIENCE_SECONDS = 5.0
"""How long to wait for an effect of another run before saying no."""

_WHO = re.compile(r"(?P<user>[^@\s]+)@(?P<host>\S+) pid (?P<pid>\d+)")


def read(root: Root) -> dict[str, Any] | None:
    """The lease that holds now, and whether its owner is known to be dead; None if nobody holds one."""
    lease = _stored(root)
    if lease is None or lease["expires"] <= time.time():
        return None
    return {**lease, "dead": _dead(lease)}


def seen(root: Root) -> dict[str, Any] | None:
    """As `read`, for those who only look: with ``working``, whether an effect runs right now.

    One that runs longer than its lease, or without one, counts as a lock, too: ``created`` is None then
    unless its lease is known. To be asked from a process that is not itself at work.
    """
    lease, at_work = read(root), _at_work(root)
    if lease is not None or not at_work:
        return lease and {**lease, "working": at_work}
    last = _stored(root) or {}
    return {
        "who": last.get("who") or _worker(root),
        "run": last.get("run"),
        "created": last.get("created"),
        "expires": time.time() + PATIENCE_SECONDS,
        "dead": False,
        "working": True,
    }


def _stored(root: Root) -> dict[str, Any] | None:
    try:
        with opened(root.path) as folder:
            found = json.loads(look(folder, NAME).data or b"null")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("expires"), (int, float)) else None


def take(root: Root, run: dict[str, Any], lease_s: float, *, force: bool) -> None:
    """Takes the lease for ``run``, or renews it. Raises `RefusedError` naming who holds it."""
    if not force:
        check(root, run)
    now, held = time.time(), _stored(root)
    created = held["created"] if held and held.get("run") == run["id"] else now
    who = {"who": run["who"], "run": run["id"], **_owner(run)}
    _store(root, {**who, "created": created, "lease": lease_s, "expires": now + lease_s})


def check(root: Root, run: dict[str, Any]) -> None:
    """Raises `RefusedError` if another run holds the lease and is not known to be dead."""
    held = read(root)
    if held is not None and held["run"] != run["id"] and not held["dead"]:
        raise RefusedError(refusal(held))


def renew(root: Root, run: dict[str, Any]) -> None:
    """Prolongs the lease if ``run`` holds it."""
    held = _stored(root)
    if held is not None and held.get("run") == run["id"]:
        _store(root, {**held, "expires": time.time() + held.get("lease", LEASE_SECONDS)})


def free(root: Root, run: dict[str, Any], *, force: bool) -> bool:
    """Gives the lease back; False if there was none of this run (with ``force``: none at all)."""
    held = _stored(root)
    if held is None or (held.get("run") != run["id"] and not force):
        return False
    with opened(root.path) as folder:
        folder.unlink(NAME)
        folder.sync()
    return True


def refusal(held: dict[str, Any]) -> str:
    """Who holds the lock, since when, and what to do."""
    age, left = round(time.time() - held["created"]), round(held["expires"] - time.time())
    return (
        f"this host is locked by {held['who']} since {max(age, 0)} s: wait for that run to end,"
        f" or for the lock to expire in {max(left, 1)} s, or free it with `calm unlock`"
    )


def _store(root: Root, lease: dict[str, Any]) -> None:
    with opened(root.path) as folder:
        replace_file(folder, NAME, json.dumps(lease).encode(), mode=0o644)


@contextlib.contextmanager
def working(root: Root, patience_s: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Holds the root while effects run. Raises `RefusedError` if another run's do not end in time."""
    try:
        import fcntl
    except ImportError:  # Windows: the lease alone has to do
        yield
        return
    fd = os.open(root.path, os.O_RDONLY)
    try:
        deadline = time.monotonic() + patience_s
        while not _locked(fcntl, fd):
            if time.monotonic() > deadline:
                raise RefusedError(_busy(root))
            time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def _locked(fcntl: Any, fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _at_work(root: Root) -> bool:
    """Whether another process holds the root; always False on Windows, which has no such lock."""
    try:
        import fcntl

        fd = os.open(root.path, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        return not _locked(fcntl, fd)
    finally:
        os.close(fd)


def _worker(root: Root) -> str:
    """The process that holds the root, as Linux tells it."""
    try:
        inode = os.stat(root.path).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            rows = [line.split() for line in file if "FLOCK" in line]
        return next(f"process {row[4]}" for row in rows if row[5].endswith(f":{inode}"))
    except (OSError, StopIteration, IndexError):
        return "somebody"


def _busy(root: Root) -> str:
    held = _stored(root) or {}
    who = held.get("who") or _worker(root)
    return f"{who} is at work on this host right now: wait for that step to end, or end that run"


def _owner(run: dict[str, Any]) -> dict[str, Any]:
    """The owner as a process: of this machine only if it is one of our own ancestors."""
    match = _WHO.search(run["who"])
    host, pid = (match["host"], int(match["pid"])) if match else (None, None)
    host, pid = run.get("host", host), run.get("pid", pid)
    local = pid is not None and pid in ancestors()
    return {
        "host": socket.gethostname() if local else host,
        "pid": pid,
        "started": started(pid) if local and pid else None,
    }


def _dead(lease: dict[str, Any]) -> bool:
    """Whether the owner is known to have died: a process of this machine that is gone or another one now."""
    pid, then = lease.get("pid"), lease.get("started")
    if not pid or not then or lease.get("host") != socket.gethostname():
        return False
    return bool(started(pid) != then)


def ancestors(pid: int | None = None) -> list[int]:
    """This process, its parent, and so on."""
    chain, now = [], pid or os.getpid()
    while now > 0 and now not in chain:
        chain.append(now)
        now = _parent(now)
    return chain


def _parent(pid: int) -> int:
    fields = _stat(pid)
    if fields:
        return int(fields[1])
    said = _ps(pid, "ppid=") if not os.path.isdir("/proc/self") else ""
    return int(said) if said.isdigit() else 0


def started(pid: int) -> str | None:
    """When a process was made, as its system tells it; with the pid it names one process. None if gone."""
    fields = _stat(pid)
    if fields:
        return fields[19] if fields[0] not in ("Z", "X") else None
    return None if os.path.isdir("/proc/self") else _ps(pid, "lstart=") or None


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` after the name: state, parent, … and as twentieth the start."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _ps(pid: int, what: str) -> str:
    import subprocess

    if os.name != "posix":
        return ""
    argv = ["ps", "-o", what, "-p", str(pid)]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=5, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip()
