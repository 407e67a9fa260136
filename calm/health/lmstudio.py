"""LM Studio's instances on this host: what they use, and whether they serve somebody.

Nothing here asks LM Studio itself, and the command ``lms`` is never called: most of its commands start LM
Studio if it is down.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from calm.health import connections, processes
from calm.health.connections import Connections, Sockets
from calm.health.home import Home, find, newest_conversation
from calm.health.identity import Identity, Tree, Trees, plain
from calm.health.model import Instance, Leftover, ProcessKey
from calm.health.processes import Known, Memories, Process, cpu_percent, total

SUSPECT = 25.0
"""Percent of one core from which an instance that seems idle is looked at a second time."""

SECOND_LOOK = 0.25
"""Seconds that the second look takes."""

LASTING = 0.25
"""Part of the CPU that must be there still at the second look for it to belong to nobody's request."""

CHATTING = 60.0
"""Seconds after the last line of a chat in the window for which it counts as going on."""


@dataclass(frozen=True, kw_only=True)
class Between:
    """CPU seconds of processes at two moments, ``span`` seconds apart.

    ``since`` is when the earlier table was read, in seconds since the epoch.
    """

    before: Mapping[ProcessKey, float]
    after: Mapping[ProcessKey, float]
    span: float
    since: float

    def percent(self, key: ProcessKey) -> float | None:
        """What one process used, in percent of one core."""
        return cpu_percent(self._before(key), self.after.get(key), span=self.span)

    def _before(self, key: ProcessKey) -> float | None:
        # One that was born after the earlier look started from nothing.
        return self.before.get(key, 0.0 if key.created_at >= self.since else None)


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What a look hands to the next one: what is dear to read, and what was looked for.

    ``watched`` are the plain names of the watched processes, the table is ``calm.health.processes``'.
    """

    identity: Identity
    watched: frozenset[str]
    table: Mapping[int, Known]
    memories: Memories
    connections: Connections

    @classmethod
    def after(cls, before: Remembered | None, identity: Identity, watched: frozenset[str]) -> Remembered:
        """To begin a look with; the table and all that was judged hold only if the same is looked for."""
        new = cls(
            identity=identity, watched=watched, table={}, memories=Memories(), connections=Connections()
        )
        if before is None:
            return new
        again = replace(new, memories=Memories(before.memories), connections=Connections(before.connections))
        if (before.identity, before.watched) != (identity, watched):
            return again
        return replace(again, identity=before.identity, table=before.table)

    def interesting(self, process: Process) -> bool:
        """Whether the process is LM Studio's, or watched."""
        return self.identity.mine(process) or self.is_watched(process)

    def is_watched(self, process: Process) -> bool:
        """Whether the settings name it."""
        return plain(process.name) in self.watched


def instances(
    trees: Trees, table: Mapping[int, Known], between: Between, home: Home, remembered: Remembered
) -> tuple[Instance, ...]:
    """The instances, the oldest first, without those that ended meanwhile; another user's is not measured."""
    measured = [_instance(tree, table, between, home, remembered) for tree in trees.instances]
    return tuple(each for each in measured if table[each.root_pid].running)


def ours(instance: Instance, home: Home) -> bool:
    """Whether an instance lives in this home, or may; without one here, every instance may."""
    return _may_live_in(instance.home, home)


def _may_live_in(theirs: str | None, home: Home) -> bool:
    return theirs is None or not home.exists or Path(theirs) == home.path.resolve()


def leftovers(trees: Trees, identity: Identity) -> tuple[Leftover, ...]:
    """Helpers and workers whose instance is gone."""
    return tuple(
        Leftover(
            pid=process.pid,
            created_at=process.created_at,
            executable=process.executable or "",
            kind="worker" if identity.is_worker(process) else "helper",
        )
        for process in trees.leftovers
    )


def _instance(
    tree: Tree, table: Mapping[int, Known], between: Between, home: Home, remembered: Remembered
) -> Instance:
    rows = [table[member.pid] for member in tree.members if member.pid in table]
    identity = remembered.identity
    root, keys = tree.root, [member.key for member in tree.members]
    lives_in = identity.home_of(tree) or _home_by_environment(root, table)
    if not _may_live_in(lives_in, home):
        rows = []  # only told of, never judged: not worth reading page maps and sockets for
    workers = [member.key for member in tree.members if identity.is_worker(member)]
    sockets, used = remembered.connections.of(root.key, rows, identity), _used(between, keys)
    memory = [remembered.memories.of(row) for row in rows]
    return Instance(
        root_pid=root.pid,
        created_at=root.created_at,
        executable=root.executable or "",
        processes=len(tree.members),
        cpu_percent=used,
        uss_bytes=total(each.uss_bytes for each in memory),
        swap_bytes=total(each.swap_bytes for each in memory),
        busy=_busy(rows, sockets, used, home, identity),
        home=lives_in,
        form=identity.form(root),
        arguments=root.arguments,
        workers_cpu_percent=_used(between, workers),
        listens=sockets.listens or (),
        serves_api=None if sockets.listens is None else home.port in sockets.listens,
        named=None if home.control_pid is None else home.control_pid in {key.pid for key in keys},
        connections=sockets.served,
        members=tuple(keys),
    )


def _home_by_environment(root: Process, table: Mapping[int, Known]) -> str | None:
    """The home of the user that started it: all there is to go by until it has workers."""
    try:
        environment = table[root.pid].handle.environ()
    except (KeyError, psutil.Error, OSError):
        return None
    user_home = environment.get("USERPROFILE") or environment.get("HOME")
    return str(find(user_home=Path(user_home)).resolve()) if user_home else None


def _used(between: Between, keys: Sequence[ProcessKey]) -> float | None:
    used = total(between.percent(key) for key in keys)
    return None if used is None else round(used, 2)


def _busy(
    rows: Sequence[Known], sockets: Sockets, used: float | None, home: Home, identity: Identity
) -> bool | None:
    """Whether somebody is being served; ``None`` if it cannot be told.

    Somebody is if others hold connections to its ports, or a chat in its window was written just now. If
    neither is so although it used much CPU, the requests may have come and gone between two looks: then a
    second, short look decides, for CPU that belonged to a request is gone with it.
    """
    if sockets.served is None:
        return None
    if sockets.served or _chatting(home):
        return True
    if used is None or used < SUSPECT:
        return False
    now = _second_look(rows)
    if now is None:
        return None
    return bool(connections.look(rows, identity).served) or now < used * LASTING


def _second_look(rows: Sequence[Known]) -> float | None:
    before, began = processes.cpu_seconds(rows), time.monotonic()
    time.sleep(SECOND_LOOK)
    after, span = processes.cpu_seconds(rows), time.monotonic() - began
    spent = [after[key] - before[key] for key in before.keys() & after.keys()]
    return cpu_percent(0.0, sum(spent), span=span) if spent else None


def _chatting(home: Home) -> bool:
    written = newest_conversation(home.path)
    return written is not None and 0 <= time.time() - written < CHATTING
