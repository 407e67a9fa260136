"""Several waits at once, with what each came back with."""

from __future__ import annotations

import threading
from typing import Any, Callable, Mapping


def together(tasks: Mapping[Any, Callable[[], Any]]) -> dict[Any, Any]:
    """The results by the tasks' keys; the first error is raised once all have ended."""
    return started(tasks)()


def started(tasks: Mapping[Any, Callable[[], Any]]) -> Callable[[], dict[Any, Any]]:
    """Begins the tasks; what comes back waits for them as `together` does.

    Threads of their own, since `concurrent.futures` takes longer to import than the probe to ask Docker.
    """
    results: dict[Any, Any] = {}
    errors: list[BaseException] = []

    def work(key: Any, task: Callable[[], Any]) -> None:
        try:
            results[key] = task()
        except BaseException as error:  # handed to the caller below
            errors.append(error)

    threads = [threading.Thread(target=work, args=item, daemon=True) for item in tasks.items()]
    for thread in threads:
        thread.start()

    def ended() -> dict[Any, Any]:
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return {key: results[key] for key in tasks}

    return ended
