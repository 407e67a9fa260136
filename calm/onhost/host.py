"""What a host is: its system, its size, its user, its ports."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any, Iterable

from calm.onhost import cgroups
from calm.onhost.files import nearest_folder
from calm.onhost.programs import which

_LISTENING = "0A"


def read(commands: Iterable[str]) -> dict[str, Any]:
    """The ``host`` part of the answer; what this system does not tell is None."""
    return {
        "name": socket.gethostname(),
        "system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}.get(sys.platform, sys.platform),
        "machine": os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE"),
        "home": os.path.expanduser("~"),
        "user": _user(),
        "uid": os.getuid() if hasattr(os, "getuid") else None,
        "gid": os.getgid() if hasattr(os, "getgid") else None,
        "python": ".".join(map(str, sys.version_info[:3])),
        "cpus": _cpus(),
        "memory_bytes": _memory(),
        "wsl": hasattr(os, "uname") and "microsoft" in os.uname().release.lower(),
        "now": time.time(),
        "cgroup": cgroups.version(),
        "path_commands": {name: which(name) is not None for name in commands},
    }


def _user() -> str:
    try:
        import pwd
    except ImportError:
        return os.environ.get("USERNAME", "")
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def disk_free(path: str) -> int | None:
    """Bytes that this user can still write where ``path`` is or would be."""
    folder = nearest_folder(path)
    try:
        if hasattr(os, "statvfs"):
            found = os.statvfs(folder)
            return found.f_bavail * found.f_frsize
        import shutil

        return shutil.disk_usage(folder).free
    except OSError:
        return None


def ports(wanted: Iterable[int], published: dict[int, str]) -> dict[str, dict[str, Any]]:
    """Which of the ports are taken, and by which container or process where that can be told."""
    others = [port for port in wanted if port not in published]
    # A kernel with much memory takes 10 ms to list its sockets, be there ever so few.
    listening = _listening() if others else None
    return {str(port): _port(port, published, listening) for port in wanted}


def _port(port: int, published: dict[int, str], listening: dict[int, str] | None) -> dict[str, Any]:
    if port in published:
        return {"taken": True, "by": published[port]}
    taken = port in listening if listening is not None else _answers(port)
    return {"taken": taken, "by": _process((listening or {}).get(port)) if taken else None}


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.3)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _listening() -> dict[int, str] | None:
    """The inodes of the listening sockets by their port; None where the system does not tell."""
    out: dict[int, str] = {}
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path, encoding="ascii") as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING:
                out[int(fields[1].rpartition(":")[2], 16)] = fields[9]
    return out if os.path.exists("/proc/net/tcp") else None


def _process(inode: str | None) -> str | None:
    """The name of the process that holds a socket; None for another user's."""
    for pid in filter(str.isdigit, os.listdir("/proc")) if inode else ():
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                if any(os.readlink(entry.path) == f"socket:[{inode}]" for entry in entries):
                    return _name(pid)
        except OSError:
            continue
    return None


def _name(pid: str) -> str | None:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None
