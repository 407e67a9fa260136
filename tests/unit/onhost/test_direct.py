"""Redis and postgres asked directly: who is none gets no password of postgres and is not believed."""

from __future__ import annotations

import base64
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from calm.onhost import direct
from calm.onhost.direct import DirectError, Place
from calm.onhost.docker_api import Endpoint, Engine

PASSWORD = "the-Passw0rd"
LOCAL = Engine(Endpoint("unix", "/run/docker.sock"))
Talk = Callable[[socket.socket], None]


@contextmanager
def serving(talk: Talk) -> Iterator[tuple[Place, bytearray]]:
    """A server that says what ``talk`` says; yields its place and all that it was told."""
    heard = bytearray()

    class Listening(socket.socket):
        def recv(self, size: int, flags: int = 0) -> bytes:
            heard.extend(data := super().recv(size, flags))
            return data

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with Listening(fileno=connection.detach()) as listening:
                talk(listening)
                listening.settimeout(0.3)
                with suppress(TimeoutError):
                    while listening.recv(4096):
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Place("127.0.0.1", server.getsockname()[1], frozenset({"172.30.0.2"})), heard
        thread.join(5)


def says(*answers: bytes) -> Talk:
    """One answer to each thing that it is told."""

    def talk(connection: socket.socket) -> None:
        for answer in answers:
            connection.recv(4096)
            connection.sendall(answer)

    return talk


def message(kind: bytes, body: bytes) -> bytes:
    """As postgres sends it."""
    return kind + struct.pack(">I", len(body) + 4) + body


def login(kind: int, body: bytes = b"") -> bytes:
    """A message about the login."""
    return message(b"R", struct.pack(">I", kind) + body)


def challenged(answer: Callable[[str], str], then: bytes = b"") -> Talk:
    """A postgres that offers SCRAM and answers the client's nonce."""

    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(login(10, b"SCRAM-SHA-256\0\0"))
        nonce = connection.recv(4096).decode("latin-1").rpartition("r=")[2]
        connection.sendall(login(11, answer(nonce).encode()))
        if then:
            connection.recv(4096)
            connection.sendall(then)

    return talk


SALT = base64.b64encode(b"salt").decode()

POSTGRES: dict[str, Talk] = {
    "garbage": says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "nothing": says(b""),
    "cut off": says(login(10, b"SCRAM-SHA-256\0\0")[:7]),
    "an endless message": says(b"R" + struct.pack(">I", 2**31)),
    "an error": says(message(b"E", b"SFATAL\0\0")),
    "wants the password itself": says(login(3)),
    "wants its MD5": says(login(5, b"salt")),
    "another mechanism": says(login(10, b"OAUTHBEARER\0\0")),
    "lets anybody in": says(login(0) + message(b"Z", b"I")),
    "another nonce": challenged(lambda _: f"r=mine,s={SALT},i=4096"),
    "work without end": challenged(lambda nonce: f"r={nonce}x,s={SALT},i=100000000"),
    "no numbers": challenged(lambda nonce: f"r={nonce}x,s={SALT},i=many"),
    "a part is missing": challenged(lambda nonce: f"r={nonce}x"),
    "does not know the password": challenged(
        lambda nonce: f"r={nonce}x,s={SALT},i=4096", login(12, b"v=AAAA") + login(0) + message(b"Z", b"I")
    ),
}


@pytest.mark.parametrize("talk", POSTGRES.values(), ids=POSTGRES)
def test_a_postgres_that_is_none_learns_no_password_and_is_not_believed(talk: Talk) -> None:
    with serving(talk) as (place, heard), pytest.raises(DirectError) as raised:
        direct.postgres(place, "me", "mine", PASSWORD, "SELECT 1")

    assert PASSWORD.encode() not in heard
    assert PASSWORD not in str(raised.value)


REDIS: dict[str, Talk] = {
    "garbage": says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "nothing": says(b""),
    "wrong password": says(b"-WRONGPASS invalid username-password pair\r\n" * 3),
    "cut off": says(b"+OK\r\n$500\r\nid=3 laddr=172.30.0.2:6379"),
    "endless": says(b"+OK\r\n$99999999999\r\n"),
    "too old": says(b"+OK\r\n-ERR Unknown subcommand\r\n*0\r\n"),
    "no list": says(b"+OK\r\n$23\r\nladdr=172.30.0.2:6379 x\r\n+OK\r\n"),
    "another server": says(b"+OK\r\n$21\r\nladdr=172.30.0.9:6379\r\n*2\r\n$1\r\nm\r\n$1\r\n7\r\n"),
}


@pytest.mark.parametrize("talk", REDIS.values(), ids=REDIS)
def test_a_redis_that_is_none_is_not_believed(talk: Talk) -> None:
    with serving(talk) as (place, _), pytest.raises(DirectError) as raised:
        direct.redis(place, PASSWORD, ["m"])

    assert PASSWORD not in str(raised.value)


def test_a_redis_answers() -> None:
    words = b"*2\r\n$1\r\nm\r\n$10\r\ntwo\r\nlines\r\n*0\r\n"
    with serving(says(b"+OK\r\n$21\r\nladdr=172.30.0.2:6379\r\n" + words)) as (place, heard):
        said = direct.redis(place, PASSWORD, ["M", "unknown"])

    assert said == {"M": "two\r\nlines", "unknown": None}
    assert heard.endswith(b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$7\r\nunknown\r\n")


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(DirectError):
        direct.redis(Place("127.0.0.1", port, frozenset({"172.30.0.2"})), PASSWORD, ["m"])


def inspected(bindings: Any, address: str = "172.30.0.2") -> dict[str, Any]:
    """What the engine says of a container's network."""
    networks = {"calm": {"IPAddress": address}}
    return {"NetworkSettings": {"Networks": networks, "Ports": {"6379/tcp": bindings}}}


@pytest.mark.parametrize(
    ("bound", "host"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1"), ("::", "::1"), ("::1", "::1")],
)
def test_a_published_port_is_found(bound: str, host: str) -> None:
    found = direct.place(LOCAL, inspected([{"HostIp": bound, "HostPort": "16379"}]), direct.REDIS_PORT)

    assert found == Place(host, 16379, frozenset({"172.30.0.2"}))


@pytest.mark.parametrize(
    ("engine", "seen"),
    [
        (LOCAL, inspected(None)),
        (LOCAL, inspected([])),
        (LOCAL, {}),
        (LOCAL, inspected([{"HostIp": "", "HostPort": "1"}], address="")),
        (Engine(Endpoint("tcp", "far:2375")), inspected([{"HostIp": "", "HostPort": "1"}])),
        (Engine(Endpoint("command", "ssh://far")), inspected([{"HostIp": "", "HostPort": "1"}])),
    ],
)
def test_what_is_not_published_on_this_host_is_asked_otherwise(engine: Engine, seen: dict[str, Any]) -> None:
    with pytest.raises(DirectError):
        direct.place(engine, seen, direct.REDIS_PORT)
