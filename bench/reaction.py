"""How fast a container that turns unhealthy is acted on: ``python -m bench.reaction [COUNT]``.

Beside calm, in the same run, docker-autoheal's rule: ask every five seconds which containers are unhealthy,
and restart those. Each has containers of its own, which turn sick at random moments. Needs an engine: the one
of DOCKER_HOST, or the lab's own (``python -m tests.lab up``).
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from calm.heal.watch import Watch
from calm.journal import Journal
from tests.integration.heal_lab import QUICK, WELL, health, run, settings, wait_for
from tests.lab.engine import Engine, lab_engine

POLL = 5.0
"""docker-autoheal's AUTOHEAL_INTERVAL."""


class Poller(threading.Thread):
    """docker-autoheal's loop, for the containers of one project."""

    def __init__(self, engine: Engine, project: str) -> None:
        super().__init__(daemon=True)
        self._engine, self._project = engine, project
        self.acted: dict[str, float] = {}
        self.stopping = threading.Event()

    def run(self) -> None:
        """Ask, restart, sleep."""
        filters = ("--filter", f"label=calm.project={self._project}", "--filter", "health=unhealthy")
        while not self.stopping.is_set():
            for name in self._engine.lines("ps", "--format", "{{.Names}}", *filters):
                self.acted.setdefault(name, time.time())
                self._engine.docker("restart", "-t", "10", name)
            self.stopping.wait(POLL)


def measure(engine: Engine, root: Path, count: int) -> dict[str, list[float]]:
    """Seconds from Docker's event to the act, for calm and for polling."""
    ours, theirs = f"calm-bench-{os.getpid()}", f"calm-bench-{os.getpid()}-poll"
    names = {
        project: [run(engine, project, f"s{n}", WELL) for n in range(count)] for project in (ours, theirs)
    }
    every = [name for each in names.values() for name in each]
    try:
        wait_for(lambda: all(health(engine, name) == "healthy" for name in every), "not healthy")
        watch = Watch(settings(root, ours), root, notice=print, tell=_ignore, interval=POLL, pace=QUICK)
        watching = threading.Thread(target=watch.run)
        poller = Poller(engine, theirs)
        watching.start()
        poller.start()
        listening = _listening(engine, theirs)
        for pair in zip(names[ours], names[theirs], strict=True):
            time.sleep(random.uniform(0, POLL))
            for name in pair:
                engine.docker("exec", name, "rm", "/tmp/well")
        wait_for(lambda: len(poller.acted) == count, "polling does not find them all")
        time.sleep(2.0)
        poller.stopping.set()
        watch.stop()
        watching.join()
        events = _told(listening)
        return {"calm": _ours(root), "poll": [at - events[name] for name, at in poller.acted.items()]}
    finally:
        engine.docker("rm", "-f", *every)


def _ours(root: Path) -> list[float]:
    journal = Journal(root / "journal.db", notice=print)
    entries = journal.remedies()
    journal.close()
    return [entry.at - entry.evidence["event_at"] for entry in entries if "event_at" in entry.evidence]


def _listening(engine: Engine, project: str) -> subprocess.Popen[str]:
    """Docker's own word of health; the engine keeps only its last 256 events, so it is read as it goes."""
    argv = [
        "docker", "events", "--filter", f"label=calm.project={project}", "--filter", "event=health_status",
        "--format", "{{.Actor.Attributes.name}} {{.TimeNano}} {{.Action}}",
    ]  # fmt: skip
    return subprocess.Popen(argv, env=engine.env, stdout=subprocess.PIPE, text=True)


def _told(listening: subprocess.Popen[str]) -> dict[str, float]:
    """When Docker first told of each container that it is unhealthy."""
    listening.terminate()
    found: dict[str, float] = {}
    for line in listening.communicate()[0].splitlines():
        name, nanoseconds, action = line.split(maxsplit=2)
        if action.endswith("unhealthy"):
            found.setdefault(name, int(nanoseconds) / 1e9)
    return found


def _ignore(*_: object) -> None:
    """Say nothing of single remedies."""


def main() -> None:
    """Print one row per way."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    host = os.environ.get("DOCKER_HOST")
    engine = Engine(socket=host.removeprefix("unix://")) if host else lab_engine()
    os.environ["DOCKER_HOST"] = engine.host
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(engine, Path(folder), count)
    names = {"calm": "calm watch", "poll": f"poll every {POLL:g} s"}
    for key, seconds in figures.items():
        print(f"{names[key]:<18} n {len(seconds):>3}, median {statistics.median(seconds):.3f} s, "
              f"worst {max(seconds):.3f} s")  # fmt: skip


if __name__ == "__main__":
    main()
