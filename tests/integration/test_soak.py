"""An hour of ``calm watch`` with a fault a minute: all found, none acted on twice, and nothing grows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from calm.journal import Entry, Journal
from calm.settings import Settings
from calm.settings.dump import to_json
from calm.settings.load import Layer, load
from tests.integration.heal_lab import WELL, health, run, state, wait_for
from tests.lab.engine import Engine
from tests.lab.lmstudio import LMStudio

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(2 * 3600)]

FAULTS, APART = 60, 60.0
SETTLED = 10
"""Faults after which the agent has loaded all that it ever uses: what grows from then on is a leak."""

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the agent holds."""

    memory_bytes: int
    files: int
    threads: int

    @classmethod
    def of(cls, process: psutil.Process) -> Cost:
        with process.oneshot():
            return cls(
                memory_bytes=process.memory_full_info().uss,
                files=process.num_fds(),
                threads=process.num_threads(),
            )


@pytest.fixture
def project(engine: Engine, unique_name: Callable[[str], str]) -> Iterator[str]:
    """A project of the test's own; its containers go when the test ends."""
    name = unique_name("soak")
    yield name
    left = engine.lines("ps", "-aq", "--filter", f"label=com.docker.compose.project={name}")
    if left:
        engine.docker("rm", "-fv", *left)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[LMStudio]:
    """LM Studio installed, not started."""
    with LMStudio.install(tmp_path / "home") as installed:
        yield installed


def _settings(root: Path, project: str, studio: LMStudio) -> Settings:
    # A target that was left alone for the window begins a new row; else each act would wait twice as long.
    healing = {"cpu_percent": 8, "budget": {"acts": 30, "window": 100, "per_day": 1000}}
    services = {"postgres": {"port": 1}, "redis": {"port": 2}, "agent_api": {"enabled": False}}
    tree = {
        "root": str(root),
        "docker": {"project": project, **services},
        "lmstudio": {"home": str(studio.home), "server": {"port": studio.port}},
        "healing": healing,
    }
    return load([Layer(source="the test", data=tree)], host="test")


@contextmanager
def _watching(engine: Engine, root: Path) -> Iterator[psutil.Process]:
    """``calm watch`` as it is installed: a process of its own."""
    code = "import sys; sys.modules['paramiko'] = None; from calm.cli.main import main; main()"
    with (root / "watch.log").open("w") as log:
        watch = subprocess.Popen(
            [sys.executable, "-c", code, "watch", "--interval", "5"],
            env=engine.env | {"CALM_ROOT": str(root)},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for((root / "outputs" / "system_metrics.json").exists, "the first snapshot is not written")
        yield psutil.Process(watch.pid)
        assert watch.poll() is None, (root / "watch.log").read_text()
    finally:
        watch.terminate()
        assert watch.wait(30) == 0


def _acts(root: Path, since: float) -> list[Entry]:
    journal = Journal(root / "journal.db", notice=print)
    try:
        return journal.remedies(since=since)
    finally:
        journal.close()


def test_an_hour_with_a_fault_a_minute(
    engine: Engine, project: str, studio: LMStudio, tmp_path: Path
) -> None:
    root = tmp_path / "calm"
    root.mkdir()
    (root / "settings.json").write_text(json.dumps(to_json(_settings(root, project, studio))))
    names = [
        run(engine, project, service, WELL, "--restart", "unless-stopped")
        for service in ("redis", "postgres", "agent-api")
    ]
    wait_for(lambda: all(health(engine, name) == "healthy" for name in names), "they do not get healthy")
    studio.start()
    faults: list[tuple[str, Callable[[], object]]] = [
        (f"container:{names[0]}", lambda: engine.docker("exec", names[0], "rm", "/tmp/well")),
        (f"container:{names[1]}", lambda: engine.docker("stop", "-t", "1", names[1])),
        (f"container:{names[2]}", lambda: engine.docker("kill", names[2])),
        ("lmstudio:", studio.start),
        ("lmstudio:", lambda: studio.control(spin="root")),
    ]
    with _watching(engine, root) as watch:
        costs: list[Cost] = []
        for number in range(FAULTS):
            target, fault = faults[number % len(faults)]
            began, due = time.time(), time.monotonic() + APART
            fault()
            wait_for(
                lambda began=began: any(each.helped for each in _acts(root, began)),  # type: ignore[misc]
                f"fault {number} at {target} is not mended",
                timeout=APART,
            )
            time.sleep(max(0.0, due - time.monotonic()))
            acts = _acts(root, began)
            assert [(each.target.startswith(target), each.result) for each in acts] == [(True, "done")], acts
            costs.append(Cost.of(watch))
            print(number, target, acts[0].action, f"{acts[0].at - began:.1f} s", costs[-1], flush=True)
    assert all(state(engine, name)["Running"] for name in names)
    assert len(studio.running) == 1
    _is_flat(costs[SETTLED:])


def _is_flat(costs: list[Cost]) -> None:
    """No more files or threads at the end than at the beginning, and no memory beyond the allocator's own."""
    first, last = costs[:5], costs[-5:]
    assert max(each.files for each in last) <= max(each.files for each in first) + 1
    assert max(each.threads for each in last) <= max(each.threads for each in first) + 1
    grown = min(each.memory_bytes for each in last) - max(each.memory_bytes for each in first)
    assert grown < 8 * MIB, f"it has grown by {grown / MIB:.1f} MiB"
