"""TCP sockets of several processes on Linux, from one reading of the kernel's table.

psutil reads and parses the whole table for each process that it is asked for, which took a fifth of what
``calm watch`` costs. The form of the table: https://www.kernel.org/doc/Documentation/networking/proc_net_tcp.txt
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import psutil

_STATES = {"01": psutil.CONN_ESTABLISHED, "0A": psutil.CONN_LISTEN}
"""Those that anybody here asks for; the others are told as they stand in the table."""


class End(NamedTuple):
    """One end of a connection."""

    address: str
    port: int


class Socket(NamedTuple):
    """One TCP socket. ``far`` is ``None`` if nobody is connected."""

    near: End
    far: End | None
    status: str


def sockets(pids: Sequence[int]) -> list[list[Socket] | None]:
    """The sockets of each process, in their order; ``None`` for one that has ended or is not to be asked.

    The processes have to share a network, as those of one program do: the table is that of the first that can
    be asked. Raises ``OSError`` if there is none to read.
    """
    held = [inodes(pid) for pid in pids]
    wanted = frozenset[str]().union(*(each for each in held if each is not None))
    whose = next((pid for pid, each in zip(pids, held, strict=True) if each is not None), None)
    table = dict(_rows(whose, wanted)) if whose is not None and wanted else {}
    return [None if each is None else [table[inode] for inode in each if inode in table] for each in held]


def inodes(pid: int) -> frozenset[str] | None:
    """The inodes of the sockets that a process has open; ``None`` if it has ended or is not to be asked."""
    found = []
    folder = f"{psutil.PROCFS_PATH}/{pid}/fd"
    try:
        for name in os.listdir(folder):  # noqa: PTH208
            try:
                target = os.readlink(f"{folder}/{name}")  # noqa: PTH115
            except FileNotFoundError:
                continue  # closed since it was listed
            if target.startswith("socket:["):
                found.append(target[8:-1])
    except OSError:
        return None
    return frozenset(found)


def _rows(pid: int, wanted: frozenset[str]) -> Iterator[tuple[str, Socket]]:
    """The sockets with these inodes, by inode."""
    for name in ("tcp", "tcp6"):
        try:
            with open(f"{psutil.PROCFS_PATH}/{pid}/net/{name}", encoding="ascii") as file:  # noqa: PTH123
                next(file, None)
                for line in file:
                    _, near, far, state, *_, inode = line.split(maxsplit=10)[:10]
                    if inode in wanted:
                        yield inode, Socket(_end(near), _far(far), _STATES.get(state, state))
        except FileNotFoundError:
            if name == "tcp":
                raise  # without IPv6 there is only the second missing


def _far(text: str) -> End | None:
    end = _end(text)
    return end if end.port else None


def _end(text: str) -> End:
    """An end as its peer sees it: a server of both families has IPv4 clients under IPv6 names."""
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    # Words in the machine's own order, each of them four bytes of the address.
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    packed = struct.pack(f">{len(words)}I", *words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return End(socket.inet_ntop(family, packed).removeprefix("::ffff:"), int(port, 16))
