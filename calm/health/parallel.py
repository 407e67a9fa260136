"""Several measurements at once, none of which can hold up the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any


def together(parts: Mapping[str, Callable[[], Any]], *, timeout: float) -> dict[str, Any]:
    """What each part returned, or the exception that it raised; ``TimeoutError`` if it took too long.

    A part that hangs (a dead network disk, say) is left behind in its thread, which ends with the process.
    """
    done: dict[str, Any] = {}
    threads = {name: _start(name, part, done) for name, part in parts.items()}
    deadline = time.monotonic() + timeout
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    late = TimeoutError(f"not measured within {timeout:g} s")
    finished = dict(done)
    return {name: finished.get(name, late) for name in parts}


def _start(name: str, part: Callable[[], Any], done: dict[str, Any]) -> threading.Thread:
    def run() -> None:
        try:
            done[name] = part()
        except Exception as error:  # whatever it is, the other parts are to be had all the same
            done[name] = error

    thread = threading.Thread(target=run, name=f"calm-{name}", daemon=True)
    thread.start()
    return thread
