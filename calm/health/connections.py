"""Who is connected to LM Studio: what says that it is being served, and from which ports."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from calm.health import tcptable
from calm.health.identity import Identity
from calm.health.model import ProcessKey
from calm.health.processes import Known
from calm.health.tcptable import End, Socket

SOCKETLESS = frozenset({"--type=renderer", "--type=gpu-process", "--type=zygote", "--type=broker"})
"""Electron's children that hold no socket; asking each of them would only cost."""

SURE = 60.0
"""Seconds for which processes that hold the same sockets as before are taken to do the same with them."""


@dataclass(frozen=True, kw_only=True)
class Sockets:
    """The TCP sockets of one tree. ``served`` counts established connections of others to its ports.

    Both ``None``: this user may not see them.
    """

    listens: tuple[int, ...] | None
    served: int | None


@dataclass(frozen=True, kw_only=True)
class _Kept:
    held: Mapping[int, frozenset[str] | None]
    sockets: Sockets
    at: float


class Connections:
    """The sockets of trees, from one look to the next.

    The kernel takes 4 ms to go through its table, busy or not. Nobody can be served without a socket that the
    server did not hold before, so on Linux the table of a tree that served nobody is read again only once it
    holds others, and now and then: a socket may be made before it listens.
    """

    def __init__(self, before: Connections | None = None) -> None:
        """``before`` is the last look's; it is left as it is."""
        self._before = before._now if before is not None else {}
        self._now: dict[ProcessKey, _Kept] = {}

    def of(self, root: ProcessKey, members: Iterable[Known], identity: Identity) -> Sockets:
        """The sockets of one tree, as :func:`look` has them."""
        members = list(members)
        if not psutil.LINUX:
            return look(members, identity)
        held = {each.pid: tcptable.inodes(each.pid) for each in _holders(members, identity)}
        known = self._before.get(root)
        if known is None or known.sockets.served or known.held != held or _aged(known.at):
            known = _Kept(held=held, sockets=look(members, identity), at=time.monotonic())
        self._now[root] = known
        return known.sockets


def look(members: Iterable[Known], identity: Identity) -> Sockets:
    """The sockets of a tree's processes, without what they or this process say to each other."""
    asked = _asked(_holders(members, identity))
    known = [sockets for sockets in asked if sockets is not None]
    if not known:
        return Sockets(listens=None, served=None)
    mine = {socket for sockets in known for socket in sockets}
    listens = {socket.near.port for socket in mine if socket.status == psutil.CONN_LISTEN}
    inner = {socket.near for socket in mine}
    served = [socket for socket in mine if _serves(socket, listens) and socket.far not in inner]
    return Sockets(listens=tuple(sorted(listens)), served=len(served) - _asked_by_us(served))


def _asked_by_us(served: Iterable[Socket]) -> int:
    """How many of these connections are this process's own: a question of ours is nobody being served."""
    far = {socket.far for socket in served}
    return len([socket for socket in _asked([psutil.Process()])[0] or () if socket.near in far]) if far else 0


def _aged(at: float) -> bool:
    return time.monotonic() - at >= SURE


def _holders(members: Iterable[Known], identity: Identity) -> list[psutil.Process]:
    return [member.handle for member in members if _has_sockets(member, identity)]


def _has_sockets(member: Known, identity: Identity) -> bool:
    return identity.is_worker(member.process) or SOCKETLESS.isdisjoint(member.process.arguments)


def _serves(socket: Socket, listens: set[int]) -> bool:
    return socket.status == psutil.CONN_ESTABLISHED and socket.near.port in listens and socket.far is not None


def _asked(handles: Sequence[psutil.Process]) -> list[list[Socket] | None]:
    """The sockets of each process; ``None`` for one that this user may not ask."""
    if psutil.LINUX and handles:
        with suppress(OSError):  # no table, or none of this form: psutil knows what else there may be
            return tcptable.sockets([handle.pid for handle in handles])
    return [_of(handle) for handle in handles]


def _of(handle: psutil.Process) -> list[Socket] | None:
    try:
        found = handle.net_connections("tcp")
    except (psutil.Error, OSError):
        return None
    return [Socket(_end(each.laddr), _end(each.raddr) if each.raddr else None, each.status) for each in found]


def _end(address: tuple[str, int]) -> End:
    """An end as its peer sees it: a server of both families has IPv4 clients under IPv6 names."""
    return End(address[0].removeprefix("::ffff:"), address[1])
