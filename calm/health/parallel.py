"""Several measurements at once, none of which can hold up the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from queue import SimpleQueue
from typing import Any


class Workers:
    """Threads that wait for the next measurements: to start one costs more than most that it does.

    A part that hangs (a dead network disk, say) keeps its thread, which ends with the process; the next part
    gets another. For one caller at a time.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._closed = False

    def together(self, parts: Mapping[str, Callable[[], Any]], *, timeout: float) -> dict[str, Any]:
        """What each part returned, or the exception that it raised; ``TimeoutError`` if it took too long."""
        done: dict[str, Any] = {}
        finished = threading.Event()

        def measure(name: str, part: Callable[[], Any]) -> None:
            try:
                done[name] = part()
            except Exception as error:  # whatever it is, the other parts are to be had all the same
                done[name] = error
            if len(done) == len(parts):
                finished.set()

        for name, part in parts.items():
            self._begin(partial(measure, name, part))
        if parts:
            finished.wait(timeout)
        late, in_time = TimeoutError(f"not measured within {timeout:g} s"), dict(done)
        return {name: in_time.get(name, late) for name in parts}

    def close(self) -> None:
        """Let the threads end, each as soon as it has nothing to do."""
        self._closed = True
        self._jobs.put(None)

    def _begin(self, job: Callable[[], None]) -> None:
        if self._closed:  # its owner ends while it measures
            threading.Thread(target=job, name="calm-measures", daemon=True).start()
            return
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._work, name="calm-measures", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            self._idle.release()
        self._jobs.put(None)  # for the next of them


def together(parts: Mapping[str, Callable[[], Any]], *, timeout: float) -> dict[str, Any]:
    """As :meth:`Workers.together`, by threads of its own."""
    with closing(Workers()) as workers:
        return workers.together(parts, timeout=timeout)
