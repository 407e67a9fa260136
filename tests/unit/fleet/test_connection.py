"""Why a host cannot be reached, in words that help."""

from __future__ import annotations

import socket
import subprocess
import sys
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


ROOM = """
import resource, sys
from calm.fleet import connection
from calm.fleet.targets import InventoryError
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
try:
    connection.make_room(300)
except InventoryError as error:
    sys.exit(str(error))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
"""In a process of its own, since a limit that was lowered stays so."""


def _room(hard: int) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", ROOM, str(hard)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_fleet_gets_as_many_open_files_as_it_has_hosts() -> None:
    assert int(_room(1000).stdout) > 300


def test_more_hosts_than_this_user_may_have_files_are_refused_with_a_way_out() -> None:
    refused = _room(128)
    assert refused.returncode == 1
    assert "300 hosts" in refused.stderr
    assert "may have 128" in refused.stderr
    assert "--limit" in refused.stderr


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
