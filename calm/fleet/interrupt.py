"""Ctrl-C while hosts are at work: heard where the command waits, and nowhere else."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import gevent  # type: ignore[import-untyped]


@contextmanager
def heard_while_waiting() -> Iterator[None]:
    """Let an interrupt end the wait of the greenlet that is here, as ``KeyboardInterrupt``.

    Python's own handler raises it in whichever greenlet runs, in the middle of anything: in a lock of
    logging's, say, which nobody frees then, so that not even the hosts' locks can be given back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    watcher = gevent.signal_handler(signal.SIGINT, gevent.kill, gevent.getcurrent(), KeyboardInterrupt)
    try:
        yield
    finally:
        watcher.cancel()
        signal.signal(signal.SIGINT, before)  # libev leaves the system's default behind
