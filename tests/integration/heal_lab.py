"""Small containers that turn sick when told to, and settings for them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calm.heal.actions_lmstudio import Patience
from calm.heal.once import Done, Pace, heal
from calm.settings import Settings
from calm.settings.load import Layer, load
from tests.lab.engine import Engine

WELL = "trap 'exit 0' TERM; touch /tmp/well; sleep 1000000 & wait"
SICK = "trap 'exit 0' TERM; sleep 1000000 & wait"
CRASHING = "sleep 0.2; exit 3"
QUICK = Pace(burst=0.8, lock=1.0, settle=15.0, young=0.0, patience=Patience(quit=5, term=2, kill=3, start=10))


def settings(root: Path, project: str, **healing: Any) -> Settings:
    """Settings of a host whose stack is the test's own; ports where nothing listens."""
    tree = {
        "root": str(root),
        "docker": {
            "project": project,
            "postgres": {"port": 1},
            "redis": {"port": 2},
            "agent_api": {"enabled": False},
        },
        "lmstudio": {"enabled": False},
        "healing": healing,
    }
    return load([Layer(source="the test", data=tree)], host="test")


def run(engine: Engine, project: str, service: str, script: str, *options: str, check: bool = True) -> str:
    """Start a container as calm's apply would have made it; its name."""
    name = f"{project}-{service}"
    health = ("--health-cmd", "test -f /tmp/well", "--health-interval", "1s", "--health-retries", "1")
    engine.docker(
        "run", "-d", "--name", name, "--entrypoint", "sh",
        "--label", f"calm.project={project}",
        "--label", f"com.docker.compose.project={project}",
        "--label", f"com.docker.compose.service={service}",
        *(health if check else ()), *options, "redis:7-alpine", "-c", script,
    )  # fmt: skip
    return name


def state(engine: Engine, name: str) -> dict[str, Any]:
    """State of a container, with ``Restarts`` added."""
    found = json.loads(engine.docker("inspect", name).stdout)[0]
    return found["State"] | {"Restarts": found["RestartCount"], "Id": found["Id"]}


def health(engine: Engine, name: str) -> str:
    return str((state(engine, name).get("Health") or {}).get("Status"))


def wait_for(condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
    """Wait until a condition holds; ``AssertionError`` with ``what`` if it does not."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def heal_once(tree: Settings, root: Path, *, said: list[str] | None = None, **options: Any) -> Done:
    """One quick run of ``calm heal``: a new agent each time."""
    notices: list[str] = [] if said is None else said
    return heal(tree, root, notice=notices.append, pace=QUICK, **options)


def age(root: Path, seconds: float) -> None:
    """Make everything in the journal that much older."""
    with sqlite3.connect(root / "journal.db") as db:
        db.execute("UPDATE remedies SET at = at - ?1, ended = ended - ?1", (seconds,))
        db.execute("UPDATE samples SET at = at - ?1", (seconds,))
    db.close()
