"""Which processes may be signalled, and the one place that signals them.

Right before each signal the process is looked at anew: the same number with another start is another process.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import psutil

from calm.health.identity import Identity, trees
from calm.health.model import ProcessKey
from calm.health.processes import Process, alive, lineage

How = Literal["terminate", "kill"]


def of_instance(
    table: Sequence[Process], root: ProcessKey, identity: Identity, protected: Collection[int]
) -> tuple[Process, ...]:
    """The processes of the instance with this root that may be ended, the root first. Pure.

    Nothing if the root is no instance (any more), or if it or a part of it is one of ``protected``: this
    program and its ancestors.
    """
    for tree in trees(table, identity).instances:
        if tree.root.key == root:
            members = {member.pid for member in tree.members}
            return () if members & set(protected) else tree.members
    return ()


def protected(table: Sequence[Process], me: int) -> frozenset[int]:
    """This program and its ancestors. Pure."""
    by_pid = {process.pid: process for process in table}
    if me not in by_pid:
        return frozenset({me})
    return frozenset({me, *(process.pid for process in lineage(by_pid, by_pid[me]))})


def signal(process: Process, identity: Identity, how: How) -> bool:
    """Signal one process if it still is who it was and still LM Studio's; whether it was signalled."""
    try:
        handle = psutil.Process(process.pid)
        if not alive(process.key) or not identity.mine(_again(handle, process)):
            return False
        handle.terminate() if how == "terminate" else handle.kill()
    except (psutil.Error, OSError):
        # It has ended, or this user may not: wait() tells which.
        return False
    return True


def wait(keys: Iterable[ProcessKey], seconds: float) -> list[ProcessKey]:
    """Wait until they have ended, at most ``seconds``; those that have not."""
    deadline = time.monotonic() + seconds
    left = [key for key in keys if alive(key)]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [key for key in left if alive(key)]
    return left


def _again(handle: psutil.Process, process: Process) -> Process:
    return Process(
        pid=process.pid,
        parent=process.parent,
        created_at=process.created_at,
        name=process.name,
        executable=handle.exe(),
        arguments=process.arguments,
    )
