"""Redis and postgres asked directly: who is none gets no password of postgres and is not believed."""

from __future__ import annotations

import base64
import socket
import struct
import threading
import time
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
            # The client leaves as soon as it has seen enough.
            with Listening(fileno=connection.detach()) as listening, suppress(OSError):
                talk(listening)
                listening.settimeout(0.3)
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


def goes_on(answer: bytes) -> Talk:
    """The answer again and again, as long as somebody listens."""

    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        while True:
            connection.sendall(answer)

    return talk


def drips(connection: socket.socket) -> None:
    """A byte now and then, so that no single piece is late."""
    connection.recv(4096)
    while True:
        connection.sendall(b"+")
        time.sleep(0.2)


def message(kind: bytes, body: bytes) -> bytes:
    """As postgres sends it."""
    return kind + struct.pack(">I", len(body) + 4) + body


def login(kind: int, body: bytes = b"") -> bytes:
    """A message about the login."""
    return message(b"R", struct.pack(">I", kind) + body)


SALT = base64.b64encode(b"salt").decode()
READY = login(0) + message(b"Z", b"I")


def row(value: bytes) -> bytes:
    """The answer to a statement that selects one value."""
    cell = struct.pack(">hi", 1, len(value)) + value
    return message(b"D", cell) + message(b"C", b"SELECT 1\0") + message(b"Z", b"I")


GIVEN_IN = (READY, row(b"172.30.0.2"), row(b"mine"))
"""What a server goes on with that lets anybody in: a client that looks no closer would believe it."""


def challenged(answer: Callable[[str], str], proof: bytes = b"v=AAAA") -> Talk:
    """A postgres that offers SCRAM, answers the client's nonce, and believes whatever comes then."""

    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(login(10, b"SCRAM-SHA-256\0\0"))
        nonce = connection.recv(4096).decode("latin-1").rpartition("r=")[2]
        connection.sendall(login(11, answer(nonce).encode()))
        connection.recv(4096)
        connection.sendall(login(12, proof) + GIVEN_IN[0])
        for answer_ in GIVEN_IN[1:]:
            connection.recv(4096)
            connection.sendall(answer_)

    return talk


POSTGRES: dict[str, tuple[Talk, str]] = {
    "garbage": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no end"),
    "nothing": (says(b""), "cut off|no proper answer"),
    "cut off": (says(login(10, b"SCRAM-SHA-256\0\0")[:7]), "cut off|no proper answer"),
    "a big message": (says(b"R" + struct.pack(">I", 2**31)), "no end"),
    "a message shorter than its head": (says(b"R" + struct.pack(">I", 3) + b"x" * 70_000), "no end"),
    "messages without end": (goes_on(message(b"N", b"x")), "too much"),
    "a byte now and then": (drips, "cut off|no proper answer"),
    "an error": (says(message(b"E", b"SFATAL\0\0")), "refuses"),
    "wants the password itself": (says(login(3), *GIVEN_IN), "another login"),
    "wants its MD5": (says(login(5, b"salt"), *GIVEN_IN), "another login"),
    "another mechanism": (says(login(10, b"OAUTHBEARER\0\0"), *GIVEN_IN), "another login"),
    "lets anybody in": (says(*GIVEN_IN), "another login"),
    "another nonce": (challenged(lambda _: f"r=mine,s={SALT},i=4096"), "challenge"),
    "work without end": (challenged(lambda nonce: f"r={nonce}x,s={SALT},i=100000000"), "challenge"),
    "a password easy to guess": (challenged(lambda nonce: f"r={nonce}x,s={SALT},i=1"), "challenge"),
    "no numbers": (challenged(lambda nonce: f"r={nonce}x,s={SALT},i=many"), "ValueError"),
    "a part is missing": (challenged(lambda nonce: f"r={nonce}x"), "KeyError"),
    "does not know the password": (
        challenged(lambda nonce: f"r={nonce}x,s={SALT},i=4096"),
        "does not know the password",
    ),
}


@pytest.mark.parametrize(("talk", "why"), POSTGRES.values(), ids=POSTGRES)
def test_a_postgres_that_is_none_learns_no_password_and_is_not_believed(
    talk: Talk, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "SECONDS", 1.0)
    began = time.monotonic()
    with serving(talk) as (place, heard):
        with pytest.raises(DirectError, match=why) as raised:
            direct.postgres(place, "me", "mine", PASSWORD, "SELECT 1")
        assert time.monotonic() - began < 3

    assert PASSWORD.encode() not in heard
    assert PASSWORD not in str(raised.value)


OWN = b"+OK\r\n$21\r\nladdr=172.30.0.2:6379\r\n"

REDIS: dict[str, Talk] = {
    "garbage": says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "nothing": says(b""),
    "a byte now and then": drips,
    "wrong password": says(b"-WRONGPASS invalid username-password pair\r\n" * 3),
    "cut off": says(b"+OK\r\n$500\r\nid=3 laddr=172.30.0.2:6379"),
    "endless": says(b"+OK\r\n$99999999999\r\n"),
    "too old": says(b"+OK\r\n-ERR Unknown subcommand\r\n*0\r\n"),
    "no list": says(OWN + b"+OK\r\n"),
    "lists within lists": says(OWN + b"*1\r\n" * 3000),
    "a list for a name": says(OWN + b"*2\r\n*0\r\n$1\r\n7\r\n"),
    "a list without end": goes_on(OWN + b"*999999999\r\n" + b"+\r\n" * 1000),
    "not text": says(OWN + b"*2\r\n$1\r\nm\r\n$2\r\n\xff\xfe\r\n"),
    "another server": says(b"+OK\r\n$21\r\nladdr=172.30.0.9:6379\r\n*2\r\n$1\r\nm\r\n$1\r\n7\r\n"),
}


@pytest.mark.parametrize("talk", REDIS.values(), ids=REDIS)
def test_a_redis_that_is_none_is_not_believed(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "SECONDS", 1.0)
    began = time.monotonic()
    with serving(talk) as (place, _):
        with pytest.raises(DirectError) as raised:
            direct.redis(place, PASSWORD, ["m"])
        assert time.monotonic() - began < 3

    assert PASSWORD not in str(raised.value)


def test_without_a_password_nobody_is_asked() -> None:
    nowhere = Place("127.0.0.1", 1, frozenset({"172.30.0.2"}))
    with pytest.raises(DirectError, match="no password"):
        direct.redis(nowhere, "", ["m"])
    with pytest.raises(DirectError, match="no password"):
        direct.postgres(nowhere, "me", "mine", "", "SELECT 1")


def test_a_redis_answers() -> None:
    words = b"*2\r\n$1\r\nm\r\n$10\r\ntwo\r\nlines\r\n*0\r\n"
    with serving(says(OWN + words)) as (place, heard):
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
        (LOCAL, inspected([{"HostIp": "", "HostPort": ""}])),
        (LOCAL, inspected([{"HostPort": "1"}])),
        (LOCAL, inspected([{"HostIp": "192.168.1.5", "HostPort": "1"}])),
        (LOCAL, inspected("nonsense")),
        (LOCAL, {}),
        (LOCAL, inspected([{"HostIp": "", "HostPort": "1"}], address="")),
        (Engine(Endpoint("tcp", "far:2375")), inspected([{"HostIp": "", "HostPort": "1"}])),
        (Engine(Endpoint("command", "ssh://far")), inspected([{"HostIp": "", "HostPort": "1"}])),
    ],
)
def test_what_is_not_published_on_this_host_is_asked_otherwise(engine: Engine, seen: dict[str, Any]) -> None:
    with pytest.raises(DirectError):
        direct.place(engine, seen, direct.REDIS_PORT)
