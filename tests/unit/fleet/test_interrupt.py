"""Ctrl-C strikes the command where it waits, and never the work of a host in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import gevent
import pytest

from calm.fleet.interrupt import heard_while_waiting


@pytest.fixture(autouse=True)
def _pythons_own_handler() -> Iterator[None]:
    """Python installs it only where interrupts were not ignored at its start, as a shell's ``&`` has them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_wait_ends_and_the_work_is_not_struck() -> None:
    done = []

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        done.extend(range(100_000))  # long enough for Python to notice a signal

    before = signal.getsignal(signal.SIGINT)
    worker = gevent.spawn(work)
    with pytest.raises(KeyboardInterrupt), heard_while_waiting():
        gevent.sleep(10)
    assert len(done) == 100_000
    assert worker.successful()
    assert signal.getsignal(signal.SIGINT) is before


def test_afterwards_python_hears_it_again() -> None:
    with heard_while_waiting():
        pass
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
