"""Figures of single processes as Linux itself writes them: one small file where psutil reads several.

The form of the file: proc(5), ``/proc/pid/stat``.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import psutil

_TICKS = os.sysconf("SC_CLK_TCK") if psutil.LINUX else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if psutil.LINUX else 4096


class Stat(NamedTuple):
    """One process at one moment. ``start`` is in ticks since boot, as text; ``parent`` is a number.

    ``faulted_bytes`` is memory that the process has touched anew since it started, ``resident_bytes`` what of
    its own and of shared memory it holds now.
    """

    start: bytes
    parent: int
    zombie: bool
    cpu_seconds: float
    faulted_bytes: int
    resident_bytes: int


def stat(pid: int) -> Stat | None:
    """What the kernel counts of a process; ``None`` if it has ended, or where this is not Linux."""
    if not psutil.LINUX:
        return None
    text = contents(f"{psutil.PROCFS_PATH}/{pid}/stat", 1024)
    if text is None:
        return None
    # The name before it may hold blanks and brackets.
    fields = text.rpartition(b")")[2].split()
    try:
        return Stat(
            start=fields[19],
            parent=int(fields[1]),
            zombie=fields[0] == b"Z",
            cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
            faulted_bytes=(int(fields[7]) + int(fields[9])) * _PAGE,
            resident_bytes=int(fields[21]) * _PAGE,
        )
    except (IndexError, ValueError):
        return None


def contents(path: str, most: int) -> bytes | None:
    """Up to ``most`` bytes of one of the kernel's files, which gives them in one piece; ``None`` without it.

    By the system's own calls: a file object costs twice the time, over a hundred times at each look.
    """
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(number, most)
    except OSError:
        return None
    finally:
        os.close(number)
