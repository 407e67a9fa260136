"""``calm up`` from nothing, beside Compose's own: ``python -m bench.cold_start [--write]``.

In turn, seven times each: containers and network are removed, the volumes stay; then ``calm up`` or
``docker compose up -d --wait`` of the same file. While calm starts, an outside client asks the agent API all
the time; counted is, too, how long after its first good answer ``calm up`` says that all is well.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from pathlib import Path

import httpx

from bench import lab, results
from tests.integration.stack import Stack

_TURNS = 7
_BIN = Path(sys.executable).parent


class Client(threading.Thread):
    """Asks until the first good answer; when that was, on the monotonic clock."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self._over = url, threading.Event()
        self.answered_at: float | None = None

    def run(self) -> None:
        """Ask every 10 ms."""
        with httpx.Client(timeout=2) as client:
            while self.answered_at is None and not self._over.wait(0.01):
                try:
                    if client.get(self._url).status_code == 200:
                        self.answered_at = time.monotonic()
                except httpx.HTTPError:
                    continue

    def close(self) -> None:
        """Ask no more."""
        self._over.set()
        self.join()


def measure() -> str:
    """Both medians, their ratio, and what the client saw, as a table."""
    with lab.lab_engine() as engine, lab.stack(engine, "cold") as stack:
        stack.apply()
        turns = [(_ours(stack), _composes_own(stack)) for _ in range(_TURNS)]
    ours, theirs = [took for (took, _), _ in turns], [took for _, took in turns]
    late = [after for (_, after), _ in turns]
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    rows = [
        ("docker compose up -d --wait", f"{statistics.median(theirs):.2f} s", "1.00", ""),
        ("calm up", f"{statistics.median(ours):.2f} s", f"{ratio:.2f}", f"{statistics.median(late):.2f} s"),
    ]
    head = ("three services, cold", f"median of {_TURNS}", "median ratio", "ready after the client's success")
    aims = f"The latest was {max(late):.2f} s after. Aims: a ratio of 1.05, 0.5 s."
    return f"{results.table(head, rows)}\n\n{aims}"


def _ours(stack: Stack) -> tuple[float, float]:
    """Seconds that it took, and seconds from the outside client's first success to its end."""
    _away(stack)
    settings = str(stack.root / "settings.json")
    client = Client(f"http://127.0.0.1:{stack.ports['agent-api']}/api/health")
    client.start()
    took = lab.seconds(
        (str(_BIN / "calm"), "up", "--settings", settings, "--skip-lmstudio"), lab.environment(stack)
    )
    ended = time.monotonic()
    client.close()
    if client.answered_at is None:
        raise RuntimeError("calm up said that all is well before the agent API had answered anybody")
    return took, ended - client.answered_at


def _composes_own(stack: Stack) -> float:
    _away(stack)
    file = str(stack.root / "docker" / "docker-compose.yml")
    return lab.seconds(
        ("docker", "compose", "-p", stack.project, "-f", file, "up", "-d", "--wait"), lab.environment(stack)
    )


def _away(stack: Stack) -> None:
    """No container and no network of the project; its volumes stay."""
    label = f"label=com.docker.compose.project={stack.project}"
    for listing, remove in ((("ps", "-aq"), ("rm", "-f")), (("network", "ls", "-q"), ("network", "rm"))):
        found = stack.docker(*listing, "--filter", label).split()
        if found:
            stack.docker(*remove, *found)


if __name__ == "__main__":
    results.main("cold_start", __doc__, measure)
