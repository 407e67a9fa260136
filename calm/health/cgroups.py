"""What a container uses, from the kernel's cgroup files: 0.03 ms a file, where the engine's API takes 2 ms.

Only where the container's main process is one of this very kernel: the path in ``/proc/PID/cgroup`` has to
name the container, else the number belongs to somebody else (Docker Desktop's containers run in a machine of
their own).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from calm.health import procfs

ROOT = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60
"""Version 1 writes a number near 2**63 for "no limit"."""

_MOST = 1 << 16
"""Bytes to read of a file at most; the longest, ``memory.stat``, has some two thousand."""

CONTROLLERS = ("cpu", "cpuacct", "memory", "pids")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Counters and levels at one moment. Memory is without page cache that the kernel can drop."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    pids: int | None = None
    oom_kills: int | None = None
    periods: int | None = None
    throttled_periods: int | None = None


def folders(pid: int, container: str, *, proc: Path = Path("/proc"), root: Path = ROOT) -> Mapping[str, Path]:
    """Folder of each controller of this container, empty if its files are not to be had here.

    Version 2 has one folder for all controllers.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    found: dict[str, Path] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if container in path:
            found |= _folders(controllers, _own(path, container), root)
    return found


def _own(path: str, container: str) -> str:
    """The container's own folder: its main process may have moved into one below (systemd does)."""
    end = path.find("/", path.index(container))
    return path[1:] if end < 0 else path[1:end]


def _folders(controllers: str, path: str, root: Path) -> dict[str, Path]:
    if not controllers:
        unified = root / path
        return dict.fromkeys(CONTROLLERS, unified) if (unified / "cgroup.controllers").exists() else {}
    return {name: root / name / path for name in controllers.split(",") if name in CONTROLLERS}


def read(where: Mapping[str, Path], before: Usage | None = None) -> Usage | None:
    """What the container of these folders uses now, or ``None`` if it has gone or shows nothing.

    ``before`` may be given where nobody has changed its limits since: if it has used no processor time since
    then, it has changed nothing else either.
    """
    if before is not None and before.cpu_seconds is not None and _spent(where) == before.cpu_seconds:
        return before
    memory = where.get("memory")
    if memory is None or not memory.is_dir():
        return None
    return _second(memory) if (memory / "cgroup.controllers").exists() else _first(where)


def _spent(where: Mapping[str, Path]) -> float | None:
    """CPU seconds."""
    if (spent := _number(where.get("cpuacct"), "cpuacct.usage")) is not None:
        return spent / 1e9
    return _spent_by(_pairs(where.get("cpu"), "cpu.stat"))


def _spent_by(stat: Mapping[str, int]) -> float | None:
    spent = stat.get("usage_usec")
    return None if spent is None else spent / 1e6


def _first(where: Mapping[str, Path]) -> Usage:
    memory, cpu = where["memory"], _pairs(where.get("cpu"), "cpu.stat")
    return Usage(
        cpu_seconds=_spent(where),
        memory_bytes=_without_cache(memory, "memory.usage_in_bytes", "total_inactive_file"),
        memory_limit_bytes=_limit(memory, "memory.limit_in_bytes"),
        pids=_number(where.get("pids"), "pids.current"),
        oom_kills=_pairs(memory, "memory.oom_control").get("oom_kill"),
        periods=cpu.get("nr_periods"),
        throttled_periods=cpu.get("nr_throttled"),
    )


def _second(folder: Path) -> Usage:
    cpu = _pairs(folder, "cpu.stat")
    return Usage(
        cpu_seconds=_spent_by(cpu),
        memory_bytes=_without_cache(folder, "memory.current", "inactive_file"),
        memory_limit_bytes=_limit(folder, "memory.max"),
        pids=_number(folder, "pids.current"),
        oom_kills=_pairs(folder, "memory.events").get("oom_kill"),
        periods=cpu.get("nr_periods"),
        throttled_periods=cpu.get("nr_throttled"),
    )


def _without_cache(folder: Path, total: str, droppable: str) -> int | None:
    used = _number(folder, total)
    return None if used is None else max(0, used - _pairs(folder, "memory.stat").get(droppable, 0))


def _limit(folder: Path, name: str) -> int | None:
    limit = _number(folder, name)
    return limit if limit is not None and limit < NO_LIMIT else None


def _number(folder: Path | None, name: str) -> int | None:
    text = _text(folder, name).strip()
    return int(text) if text.isdigit() else None


def _pairs(folder: Path | None, name: str) -> dict[str, int]:
    words = [line.split() for line in _text(folder, name).splitlines()]
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}


def _text(folder: Path | None, name: str) -> str:
    """A file's text, empty if it cannot be read: a container may end between two files."""
    if folder is None:
        return ""
    return (procfs.contents(f"{folder}/{name}", _MOST) or b"").decode()
