"""What a test run leaves on an engine: all that it makes has its own prefix, and must be taken away."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from tests.lab.engine import Engine

PREFIX = f"calm-t{os.getpid()}-"
"""How every container, volume, network and project of this test run is named."""

LISTS = {
    "container": ("ps", "-a", "--format", "{{.Names}}"),
    "network": ("network", "ls", "--format", "{{.Name}}"),
    "volume": ("volume", "ls", "--format", "{{.Name}}"),
}
REMOVALS = {
    "container": ("rm", "-f", "-v"),
    "network": ("network", "rm"),
    "volume": ("volume", "rm", "-f"),
}


def of_this_run(engine: Engine) -> list[str]:
    """What this run has left, as `container calm-t12-postgres`; it is removed, since nobody else will."""
    return _take_away(engine, lambda name: name.startswith(PREFIX))


def of_dead_runs(engine: Engine) -> list[str]:
    """What killed runs have left, whose process is gone; it is removed."""
    return _take_away(engine, _of_the_dead)


def _take_away(engine: Engine, ours: Callable[[str], bool]) -> list[str]:
    left = []
    for kind, command in LISTS.items():
        for name in filter(ours, engine.lines(*command)):
            left.append(f"{kind} {name}")
            engine.docker(*REMOVALS[kind], name, check=False)
    return left


def _of_the_dead(name: str) -> bool:
    found = re.match(r"calm-t(\d+)-", name)
    return found is not None and not Path("/proc", found[1]).exists()
