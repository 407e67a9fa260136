"""TCP ports that no other test run on this machine uses at the same time."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

FIRST, LAST = 20000, 30000
"""Below the range from which kernels take ports for outgoing connections."""

_claims: list[TextIOWrapper] = []
"""Held locks: a port stays claimed until this process ends."""


def free_ports(count: int) -> tuple[int, ...]:
    """That many ports on which nothing listens and which no other process has claimed here."""
    ports = tuple(port for port, _ in zip(_claimed(), range(count), strict=False))
    if len(ports) < count:
        raise OSError(f"no {count} ports between {FIRST} and {LAST} are free")
    return ports


def _claimed() -> Iterator[int]:
    span = LAST - FIRST
    start = os.getpid() * 37 % span
    for step in range(span):
        port = FIRST + (start + step) % span
        if _claim(port):
            yield port


def _claim(port: int) -> bool:
    folder = Path(tempfile.gettempdir(), "calm-test-ports")
    folder.mkdir(mode=0o777, exist_ok=True)
    handle = (folder / str(port)).open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.create_server(("", port)):
            pass
    except OSError:
        handle.close()
        return False
    _claims.append(handle)
    return True
