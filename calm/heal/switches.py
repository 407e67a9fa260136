"""What holds healing back: ``calm pause``, ``calm down``, an apply that is running, another act.

Each is a small file under the root. One that cannot be read holds, rather than being passed over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from calm.atomic import replace

PAUSE, DOWN, TURN = "paused.json", "down.json", ".heal.lock"
PARTS = ("docker", "lmstudio")


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Why nothing is done now. ``until`` is seconds since the epoch, ``None`` without an end."""

    reason: str
    until: float | None = None


def pause(root: Path, *, until: float | None) -> None:
    """Stop heal and watch from acting, until a time or until :func:`resume`. They go on looking."""
    root.mkdir(parents=True, exist_ok=True)
    replace(root / PAUSE, json.dumps({"at": time.time(), "until": until}) + "\n")


def resume(root: Path) -> bool:
    """Take the pause away; whether there was one."""
    existed = (root / PAUSE).exists()
    (root / PAUSE).unlink(missing_ok=True)
    return existed


def paused(root: Path, now: float) -> Hold | None:
    """The pause that holds at ``now``."""
    found = _read(root / PAUSE)
    if found is None:
        return None
    until = found.get("until")
    if until is None:
        return Hold(reason="paused until calm resume")
    if not isinstance(until, int | float):
        return Hold(reason=f"{root / PAUSE} cannot be read, so nothing is done; calm resume removes it")
    if until <= now:
        return None
    return Hold(reason=f"paused for another {(until - now) / 60:.0f} min", until=until)


def want_stopped(root: Path, parts: tuple[str, ...] = PARTS) -> None:
    """Note that the user wants ``parts`` stopped (``docker``, ``lmstudio``): healing starts none of them."""
    root.mkdir(parents=True, exist_ok=True)
    replace(root / DOWN, json.dumps({"at": time.time(), "parts": sorted(parts)}) + "\n")


def want_running(root: Path) -> None:
    """Forget :func:`want_stopped`; what ``up`` and ``apply`` do."""
    (root / DOWN).unlink(missing_ok=True)


def wanted_stopped(root: Path) -> frozenset[str]:
    """The parts that the user wants stopped."""
    found = _read(root / DOWN)
    if found is None:
        return frozenset()
    parts = found.get("parts")
    return frozenset(parts) if isinstance(parts, list) else frozenset(PARTS)


def applying(root: Path, *, run: str | None = None) -> Hold | None:
    """The apply that holds the host's lock now; ``run`` is the apply that this heal is part of."""
    from calm.onhost import lock
    from calm.onhost.files import Root

    held = lock.seen(Root(str(root)))
    if held is None or (held["dead"] and not held["working"]) or (run is not None and held.get("run") == run):
        return None
    return Hold(reason=f"an apply by {held.get('who', 'somebody')} is running", until=held["expires"])


@contextmanager
def turn(root: Path) -> Iterator[bool]:
    """One act at a time on this host, whoever does it: yields whether it is our turn.

    The operating system takes the lock back from a process that was killed.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / TURN).open("a+") as file:
        got = _locked(file)
        try:
            yield got
        finally:
            if got:
                _unlock(file)


def _locked(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:
        return _windows(file, take=True)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(file: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:
        _windows(file, take=False)
    else:
        fcntl.flock(file, fcntl.LOCK_UN)


def _windows(file: IO[str], *, take: bool) -> bool:
    """The first byte, which need not exist, stands for the whole file."""
    import importlib

    msvcrt = importlib.import_module("msvcrt")
    file.seek(0)
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK if take else msvcrt.LK_UNLCK, 1)
    except OSError:
        return False
    return True


def _read(path: Path) -> Mapping[str, Any] | None:
    """The mapping in a file; ``None`` without one, and one without a sensible value if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        content = None
    return content if isinstance(content, Mapping) else {"until": "unreadable"}
