"""A host to measure on: the tests' engine, a stack of its own, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["CALM_PLAIN"] = "1"  # the command as users have it, in a process of its own

from tests.fleet.machines import Fleet, start_all
from tests.integration.stack import Stack
from tests.lab import engine, hosts, images, leftovers
from tests.lab.ports import free_ports


@contextmanager
def lab_engine() -> Iterator[engine.Engine]:
    """The lab's engine; one that was started for this is stopped again."""
    running, ours = engine.up()
    images.ensure(running, *images.STACK)
    try:
        with engine.in_use():
            yield running
    finally:
        if ours and not engine.is_in_use():
            engine.down()


@contextmanager
def stack(running: engine.Engine, name: str, **settings: Any) -> Iterator[Stack]:
    """A host of its own, not yet converged; swept at the end."""
    with tempfile.TemporaryDirectory(prefix=f"calm-bench-{name}-") as folder:
        made = Stack(
            folder=Path(folder),
            docker_env=running.env,
            project=f"{leftovers.PREFIX}bench-{name}",
            ports=dict(zip(("postgres", "redis", "agent-api"), free_ports(3), strict=True)),
            settings=settings,
        )
        try:
            yield made
        finally:
            made.sweep()


@contextmanager
def fleet(name: str, number: int) -> Iterator[Fleet]:
    """So many real hosts with systemd, sshd and an engine of their own, converged; gone at the end."""
    names = {f"gpu-{index}": f"{leftovers.PREFIX}{name}-{index}" for index in range(1, number + 1)}
    with lab_engine() as running, tempfile.TemporaryDirectory(prefix=f"calm-bench-{name}-") as folder:
        key = hosts.key_pair(Path(folder, "keys"))
        try:
            machines = start_all(running, names, key=key, deadline_s=60 + 30 * number)
            made = Fleet(folder=Path(folder), key=key, whole=machines)
            for host, machine in machines.items():
                made.add(host, machine.address)
            made.apply()
            yield made
        finally:
            for container in names.values():
                hosts.destroy(running, container)


def environment(of: Stack) -> dict[str, str]:
    """The environment of a measured command: Python may keep its bytecode, in a folder of this run's own.

    Where it may not, every command compiles all of its libraries, which no installed program does.
    """
    kept = of.environment(PYTHONPYCACHEPREFIX=str(of.folder / "bytecode"))
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"PATH": os.environ["PATH"]}


def seconds(argv: Sequence[str], env: Mapping[str, str], folder: Path | None = None) -> float:
    """How long a command takes that has to end well; RuntimeError with its words if it does not."""
    began = time.perf_counter()
    done = subprocess.run(
        argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return took
