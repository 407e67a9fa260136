"""The memory limit that the kernel enforces, which can differ from what Docker remembers."""

from __future__ import annotations

import os

_UNLIMITED = 1 << 62


def memory_limit(pid: int, root: str = "/sys/fs/cgroup", proc: str = "/proc") -> int | None:
    """Bytes that the cgroup of a container's first process may use; 0 without a limit, None if unreadable.

    It is unreadable on other systems than Linux, for a stopped container, and where the engine runs in a
    virtual machine.
    """
    if pid <= 0:
        return None
    for controllers, path in _groups(f"{proc}/{pid}/cgroup"):
        if controllers == "" and os.path.exists(f"{root}{path}/memory.max"):
            return _number(f"{root}{path}/memory.max")
        if "memory" in controllers.split(","):
            return _number(f"{root}/memory{path}/memory.limit_in_bytes")
    return None


def version(root: str = "/sys/fs/cgroup") -> int | None:
    """1 or 2; None where there are none."""
    if os.path.exists(f"{root}/cgroup.controllers"):
        return 2
    return 1 if os.path.isdir(f"{root}/memory") else None


def _groups(path: str) -> list[tuple[str, str]]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []
    return [(line[1], line[2]) for line in lines if len(line) == 3]


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return None
    if text == "max":
        return 0
    return None if not text.isdigit() else (0 if int(text) >= _UNLIMITED else int(text))
