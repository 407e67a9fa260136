"""What is dear to read is read again as soon as it can have changed."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from calm.health import processes, procfs
from calm.health.connections import Connections
from calm.health.identity import Identity
from calm.health.processes import MOVED, Known, Memories

pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="elsewhere everything is read every time")

NOBODY = Identity(system="Linux")
_GROWS = """
import sys
held = []
for line in sys.stdin:
    held.append(bytearray(b"x" * int(line)))
    print(len(held), flush=True)
"""


class Growing:
    """A process that takes memory when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def take(self, size: int) -> None:
        """Hold so many bytes more."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{size}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline()

    def row(self) -> Known:
        """Its row of a table that is read now."""
        return processes.read({}, interesting=lambda each: each.pid == self.process.pid)[self.process.pid]


@pytest.fixture
def growing() -> Iterator[Growing]:
    argv = [sys.executable, "-c", _GROWS]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Growing(process)
        process.kill()


def test_the_kernels_figures_are_psutils() -> None:
    ours, theirs = procfs.stat(psutil.Process().pid), psutil.Process()

    assert ours is not None
    assert ours.parent == theirs.ppid()
    assert not ours.zombie
    assert ours.cpu_seconds == pytest.approx(sum(theirs.cpu_times()[:2]), abs=0.5)
    assert ours.resident_bytes == pytest.approx(theirs.memory_info().rss, rel=0.2)


def test_nobody_has_no_figures() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert procfs.stat(ended.pid) is None


def test_memory_is_measured_again_once_a_process_has_taken_some(growing: Growing) -> None:
    growing.take(1)
    first = Memories()
    before = first.of(growing.row())
    second = Memories(first)
    idle = second.of(growing.row())
    growing.take(8 * MOVED)
    grown = Memories(second).of(growing.row())

    assert idle is before
    assert before.uss_bytes is not None
    assert grown.uss_bytes is not None
    assert grown.uss_bytes - before.uss_bytes >= 7 * MOVED


def test_a_connection_is_seen_at_once_and_its_end_too() -> None:
    """This process serves; another one is connected to it."""
    row = processes.read({}, interesting=lambda each: each.pid == psutil.Process().pid)[psutil.Process().pid]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        first = Connections()
        quiet = first.of(row.process.key, [row], NOBODY)
        second = Connections(first)
        again = second.of(row.process.key, [row], NOBODY)
        asks = f"import socket; s = socket.create_connection(('127.0.0.1', {port})); input()"
        with subprocess.Popen([sys.executable, "-c", asks], stdin=subprocess.PIPE) as client:
            connection, _ = server.accept()
            third = Connections(second)
            served = third.of(row.process.key, [row], NOBODY)
            connection.close()
            client.kill()
        over = Connections(third).of(row.process.key, [row], NOBODY)

    assert again is quiet
    assert quiet.listens is not None
    assert port in quiet.listens
    assert served.served == (quiet.served or 0) + 1
    assert over.served == quiet.served
