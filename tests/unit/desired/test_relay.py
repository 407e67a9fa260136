"""The relay: from an address to the same port on 127.0.0.1, and in nobody's way."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.ports import free_ports

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a second address of loopback")

RELAY = Path(__file__).parents[3] / "templates" / "docker" / "relay.py"
ADDRESS = "127.0.0.2"


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """A relay for two ports, of which it serves the first at once."""
    first, other = free_ports(2)
    argv = [sys.executable, "-I", str(RELAY)]
    with subprocess.Popen([*argv, ADDRESS, str(first), str(other)]) as process:
        check = [*argv, "--check", ADDRESS, str(first)]
        until(lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0)
        yield first, other
        process.terminate()
        assert process.wait(10) == 0


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def echoed(port: int, server: socket.socket) -> bytes:
    with socket.create_connection((ADDRESS, port), timeout=5) as client:
        inside, _ = server.accept()
        with inside:
            client.sendall(b"hello")
            inside.sendall(inside.recv(16).upper())
            return client.recv(16)


def taken(port: int) -> bool:
    try:
        socket.create_server(("0.0.0.0", port)).close()
    except OSError:
        return True
    return False


def test_another_port_is_held_only_while_somebody_listens_on_127_0_0_1(ports: tuple[int, int]) -> None:
    _, port = ports
    assert not taken(port), "whoever listens everywhere can start"
    with socket.create_server(("127.0.0.1", port)) as server:
        until(lambda: _refuses_nobody(port))
        inside, _ = server.accept()
        inside.close()
        assert echoed(port, server) == b"HELLO"
    until(lambda: not taken(port))


def test_the_first_port_is_always_held(ports: tuple[int, int]) -> None:
    port, _ = ports
    assert taken(port)
    with socket.create_server(("127.0.0.1", port)) as server:
        assert echoed(port, server) == b"HELLO"
    assert taken(port)


def _refuses_nobody(port: int) -> bool:
    try:
        socket.create_connection((ADDRESS, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
