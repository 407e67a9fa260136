"""The kernel's table, beside what psutil says of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import psutil
import pytest

from calm.health.connections import Socket, _end
from calm.health.tcptable import sockets

pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="the table is Linux's")


def _psutils(pid: int) -> set[Socket]:
    named = {psutil.CONN_LISTEN, psutil.CONN_ESTABLISHED}
    found = psutil.Process(pid).net_connections("tcp")
    return {
        Socket(_end(each.laddr), _end(each.raddr) if each.raddr else None, each.status)
        for each in found
        if each.status in named
    }


def test_it_says_what_psutil_says_of_both_families() -> None:
    with ExitStack() as held:
        both = held.enter_context(
            socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        )
        four = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        for server, address in ((four, "127.0.0.1"), (both, "127.0.0.1"), (both, "::1")):
            held.enter_context(socket.create_connection((address, server.getsockname()[1])))
            held.enter_context(server.accept()[0])
        (ours,) = sockets([os.getpid()])
        theirs = _psutils(os.getpid())
    assert ours is not None
    assert {each for each in ours if each.status in ("LISTEN", "ESTABLISHED")} == theirs
    assert len(theirs) >= 8


def test_each_process_has_its_own_and_one_that_has_ended_has_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        with subprocess.Popen(["sleep", "60"]) as silent:
            try:
                ours, its, gone = sockets([os.getpid(), silent.pid, ended.pid])
            finally:
                silent.kill()
    assert port in {each.near.port for each in ours or ()}
    assert its == []
    assert gone is None


def test_nobody_to_ask_is_no_error() -> None:
    assert sockets([]) == []
