"""Why a host cannot be reached, in words that help."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from paramiko import SSHException
from pyinfra.api.exceptions import ConnectError

from calm.fleet import connection


def host(**connector: Any) -> Any:
    return SimpleNamespace(name="gpu-1", connector=SimpleNamespace(**connector))


@pytest.mark.parametrize(
    ("said", "code", "word"),
    [
        ("SSH host key error (Host key for 10.0.0.1 does not match.)", "host_key", "another one than before"),
        ("SSH error (StrictPolicy: No host key for 10.0.0.1 found in known_hosts)", "host_key", "not known"),
        ("Authentication error (username=root)", "login", "refuses the login"),
        ("Could not resolve hostname ([Errno -2] Name or service not known)", "unreachable", "no address"),
        ("Could not connect (timed out)", "unreachable", "no answer within 10 s"),
        ("Could not connect ([Errno 113] No route to host)", "unreachable", "No route to host."),
        ("EOF error ()", "host_key", "asks a question"),
    ],
)
def test_a_reason_names_the_address_and_what_to_do(said: str, code: str, word: str) -> None:
    why = connection.reason(host(data={"ssh_hostname": "10.0.0.1"}), ConnectError(said))
    assert why.code == code
    assert word in why.message
    assert "10.0.0.1" in why.message
    assert why.hint


def test_a_socket_ends_a_silence_and_waits_for_nothing() -> None:
    with socket.socket() as channel:
        transport = SimpleNamespace(sock=channel)
        connection.settle(host(client=SimpleNamespace(get_transport=lambda: transport)))
        assert channel.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert channel.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_local_host_answers() -> None:
    assert connection.answers(host())


def test_a_connection_that_opens_no_channel_is_lost() -> None:
    def refuse(timeout: float) -> None:
        assert timeout <= connection.CONNECT_SECONDS
        raise SSHException("Timeout opening channel.")

    transport = SimpleNamespace(open_session=refuse)
    assert not connection.answers(host(client=SimpleNamespace(get_transport=lambda: transport)))
