"""Redis and postgres asked over their published ports: 1 and 10 ms, where a command in a container takes 75.

Only ports that an engine of this host publishes on its loopback are asked (a socket that somebody forwards
from elsewhere looks like one of this host), and only an answer from the container's own address counts.
Whatever is not as it should be ends in `DirectError`, and the caller asks in the container.

The protocols: https://redis.io/docs/latest/develop/reference/protocol-spec/ and
https://www.postgresql.org/docs/current/protocol-message-formats.html; of the login, `scram.py`.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import socket
import struct
import threading
from typing import IO, Any, Iterator, Mapping, NamedTuple

from calm.onhost import scram
from calm.onhost.docker_api import Engine

SECONDS = 4.0
"""For a whole conversation."""

REDIS_PORT, POSTGRES_PORT = 6379, 5432
_ITERATIONS = range(scram.ITERATIONS, 50_001)
"""Of the login: fewer would help a stranger to guess, and what more of them cost is no longer quick."""

_LONGEST, _MOST = 1 << 16, 200
"""Bytes of one message, and messages; both far beyond what a server says here."""

_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "127.0.0.1": "127.0.0.1", "::": "::1", "::1": "::1"}
_ADDRESS = "SELECT host(inet_server_addr())"


class DirectError(Exception):
    """This way leads nowhere; there is another one."""


class Place(NamedTuple):
    """Where a server in a container is reached, and its addresses in its own networks."""

    host: str
    port: int
    own: frozenset[str]


def place(engine: Engine, inspected: Mapping[str, Any], port: int) -> Place:
    """Where the host publishes the container's ``port``. Raises `DirectError` if it does not."""
    with _only_this_error():
        network = inspected.get("NetworkSettings") or {}
        own = {str(one.get("IPAddress") or "") for one in (network.get("Networks") or {}).values()} - {""}
        bound = [
            one for one in (network.get("Ports") or {}).get(f"{port}/tcp") or () if one["HostIp"] in _LOOPBACK
        ]
        if engine.endpoint.kind != "unix" or not own or not bound:
            raise DirectError("its port is not published on this host's loopback")
        return Place(_LOOPBACK[bound[0]["HostIp"]], int(bound[0]["HostPort"]), frozenset(own))


def redis(at: Place, password: str, names: list[str]) -> dict[str, str | None]:
    """What ``CONFIG GET`` says to the default user; None for a parameter that this redis does not have.

    The password crosses this host's own network, as that of any client there does.
    """
    questions = [["AUTH", password], ["CLIENT", "INFO"], *(["CONFIG", "GET", name.lower()] for name in names)]
    with _connected(at, password) as (connection, stream):
        connection.sendall(b"".join(map(_command, questions)))
        _word(stream)
        info = _word(stream)
        _same(at, _field(info, "laddr").rpartition(":")[0])
        found = [_pairs(stream) for _ in names]
        return {name: pairs.get(name.lower()) for name, pairs in zip(names, found)}


def postgres(at: Place, user: str, database: str, password: str, statement: str) -> str:
    """The one value that ``statement`` selects.

    The password does not cross the network, and the server has to prove that it knows it. A wrong one leaves
    a line in its log, as any login does that fails.
    """
    with _connected(at, password) as (connection, stream):
        session = _Session(connection, stream)
        session.log_in(user, database, password)
        _same(at, session.select(_ADDRESS))
        return session.select(statement)


@contextlib.contextmanager
def _only_this_error() -> Iterator[None]:
    try:
        yield
    except DirectError:
        raise
    except Exception as error:  # a stranger may answer anything, and there is another way
        raise DirectError(f"no proper answer ({type(error).__name__})") from None


@contextlib.contextmanager
def _connected(at: Place, password: str) -> Iterator[tuple[socket.socket, IO[bytes]]]:
    if not password:
        raise DirectError("there is no password to log in with")
    with _only_this_error(), contextlib.ExitStack() as held:
        # Not by create_connection, which loads the tables of international names first: 20 ms.
        family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
        connection = held.enter_context(socket.socket(family))
        connection.settimeout(SECONDS)
        connection.connect((at.host, at.port))
        # A time limit of the socket is one for each piece: who sends a byte a second would be heard for ever.
        alarm = threading.Timer(SECONDS, _hang_up, (connection,))
        alarm.daemon = True
        alarm.start()
        held.callback(alarm.cancel)
        yield connection, held.enter_context(connection.makefile("rb"))


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _same(at: Place, address: str) -> None:
    if address not in at.own:
        raise DirectError("another server than the container's answers")


def _command(words: list[str]) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _word(stream: IO[bytes]) -> str:
    line = stream.readline(_LONGEST)
    kind, rest = line[:1], line[1:].strip()
    if kind == b"+":
        return rest.decode()
    if kind == b"$" and rest.isdigit():
        return _exactly(stream, int(rest) + 2)[:-2].decode()
    raise DirectError("redis refuses, or it is not redis that answers")


def _pairs(stream: IO[bytes]) -> dict[str, str]:
    line = stream.readline(_LONGEST)
    count = line[1:].strip()
    if line[:1] != b"*" or not count.isdigit() or int(count) > _MOST:
        raise DirectError("redis refuses, or it is not redis that answers")
    words = [_word(stream) for _ in range(int(count))]
    return dict(zip(words[::2], words[1::2]))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size) if 0 <= size <= _LONGEST else b""
    if len(data) != size:
        raise DirectError("the answer was cut off, or has no end")
    return data


def _field(info: str, name: str) -> str:
    pairs = (pair.partition("=") for pair in info.split())
    return next((value for key, _, value in pairs if key == name), "")


class _Session:
    """A conversation with postgres."""

    def __init__(self, connection: socket.socket, stream: IO[bytes]) -> None:
        self._connection, self._stream = connection, stream

    def log_in(self, user: str, database: str, password: str) -> None:
        """By SCRAM-SHA-256 alone: whoever wants the password itself does not get it."""
        options = {"user": user, "database": database, "client_encoding": "UTF8", "application_name": "calm"}
        body = b"".join(word.encode() + b"\0" for pair in options.items() for word in pair)
        self._send(b"", struct.pack(">I", 196608) + body + b"\0")
        mechanisms = self._authentication(10)
        if b"SCRAM-SHA-256" not in mechanisms.split(b"\0") or not password.isascii():
            raise DirectError("it wants another login")
        self._scram(password.encode())
        self._authentication(0)
        self._until(b"Z")

    def select(self, statement: str) -> str:
        """The only column of the only row."""
        self._send(b"Q", statement.encode() + b"\0")
        rows = [body for kind, body in self._until(b"Z") if kind == b"D"]
        (length,) = struct.unpack(">i", rows[0][2:6])
        if length < 0:
            raise DirectError("it selects nothing")
        return rows[0][6 : 6 + length].decode()

    def _scram(self, password: bytes) -> None:
        nonce = _text(os.urandom(18))
        bare = f"n=,r={nonce}"
        first = f"n,,{bare}".encode()
        self._send(b"p", b"SCRAM-SHA-256\0" + struct.pack(">I", len(first)) + first)
        challenge = self._authentication(11).decode()
        given = dict(part.split("=", 1) for part in challenge.split(","))
        iterations = int(given["i"])
        if not given["r"].startswith(nonce) or iterations not in _ITERATIONS:
            raise DirectError("its challenge is none that is answered here")
        keys = scram.keys(password, base64.b64decode(given["s"]), iterations)
        final = f"c=biws,r={given['r']}"
        signed = f"{bare},{challenge},{final}".encode()
        proof = bytes(a ^ b for a, b in zip(keys.client, scram.mac(keys.stored, signed)))
        self._send(b"p", f"{final},p={_text(proof)}".encode())
        expected = f"v={_text(scram.mac(keys.server, signed))}"
        if not hmac.compare_digest(self._authentication(12), expected.encode()):
            raise DirectError("the server does not know the password")

    def _send(self, kind: bytes, body: bytes) -> None:
        self._connection.sendall(kind + struct.pack(">I", len(body) + 4) + body)

    def _read(self) -> tuple[bytes, bytes]:
        kind, size = struct.unpack(">cI", _exactly(self._stream, 5))
        body = _exactly(self._stream, size - 4)
        if kind == b"E":
            raise DirectError("postgres refuses, or it is not postgres that answers")
        return kind, body

    def _until(self, end: bytes) -> list[tuple[bytes, bytes]]:
        messages = [self._read()]
        while messages[-1][0] != end:
            if len(messages) == _MOST:
                raise DirectError("postgres says too much")
            messages.append(self._read())
        return messages

    def _authentication(self, wanted: int) -> bytes:
        """The body of the next message about the login, which has to be of this kind."""
        (kind,) = struct.unpack(">I", (body := self._until(b"R")[-1][1])[:4])
        if kind != wanted:
            raise DirectError("it wants another login")
        return body[4:]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
