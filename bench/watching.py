"""What ``calm watch`` costs beside ``glances`` and ``docker stats``: ``python -m bench.watching [--write]``.

All three run at once for a minute and look every five seconds (``docker stats`` knows no interval) at the
same host: ten containers, LM Studio's stand-in, two hundred processes. Counted are the processor time of each
one's own processes after they have settled, and their memory; what the engine does for them is not. In its
journal calm finds two hours of snapshots, for its rules look back on them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench import lab, results
from calm.journal import NAME, Journal
from tests.integration.stack import CALM, Stack
from tests.lab.engine import Engine
from tests.lab.lmstudio import LMStudio

WARM, SETTLE, SECONDS = 10.0, 80.0, 60.0
"""Seconds; a container that is younger than a minute is looked at more closely than one that has settled."""

INTERVAL, PAST = "5", 7200
"""Seconds."""

_CONTAINERS, _PROCESSES = 10, 200

_AS_AGENT = """
import sys
sys.modules["paramiko"] = None
from calm.cli.main import main
main()
"""
"""The agent's own environment has no paramiko, which Docker's SDK loads wherever it is there."""

_GLANCES = "glances[containers]==4.5.8"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Processor time in percent of one core, and resident memory in MiB."""

    cpu_percent: float
    memory_mib: float


def measure() -> str:
    """The costs, as a table."""
    with ExitStack() as held:
        engine = held.enter_context(lab.lab_engine())
        stack = held.enter_context(lab.stack(engine, "watch"))
        studio = held.enter_context(LMStudio.install(stack.home))
        studio.start(loaded=["qwen/qwen3-4b"])
        stack.write(lmstudio={"server": {"port": studio.port}})
        stack.apply()
        _more_containers(stack, engine)
        held.enter_context(_sleepers(_PROCESSES - len(psutil.pids())))
        containers, processes = len(engine.lines("ps", "-q")), len(psutil.pids())
        _past(stack)
        began = time.time()
        costs = _costs(stack)
        unmeasured = _unmeasured(stack, since=began)
    return _shown(costs, containers, processes, unmeasured)


def _past(stack: Stack) -> None:
    """Two hours in which nothing happened."""
    said = stack.run([*CALM, "snapshot", "--settings", str(stack.root / "settings.json"), "--json"])
    if said.code != 0:
        raise RuntimeError(f"calm snapshot ended with {said.code}: {said.err}")
    document, now = json.loads(said.out), time.time()
    journal = Journal(stack.root / NAME, notice=print)
    try:
        for ago in range(PAST, 0, -int(INTERVAL)):
            journal.add_sample(now - ago, json.dumps(document | {"taken_at": now - ago}))
    finally:
        journal.close()


def _costs(stack: Stack) -> dict[str, Cost]:
    as_agent, settings = [sys.executable, "-c", _AS_AGENT], str(stack.root / "settings.json")
    commands = {
        "calm watch": [*as_agent, "watch", "--settings", settings, "--interval", INTERVAL],
        "glances": [glances(), "-q", "-t", INTERVAL],
        "docker stats": ["docker", "stats"],
    }
    env = lab.environment(stack)
    for argv in commands.values():  # bytecode: whoever compiles it first keeps some of the memory
        with _running(argv, env):
            time.sleep(WARM)
    with ExitStack() as held:
        running = {name: held.enter_context(_running(argv, env)) for name, argv in commands.items()}
        time.sleep(SETTLE)
        before, began = {name: _spent(process) for name, process in running.items()}, time.monotonic()
        time.sleep(SECONDS)
        span = time.monotonic() - began
        return {
            name: Cost(cpu_percent=100 * (_spent(process) - before[name]) / span, memory_mib=_memory(process))
            for name, process in running.items()
        }


@contextmanager
def _running(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[psutil.Process]:
    process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid)
        if process.poll() is not None:
            raise RuntimeError(f"{argv[0]} ended with {process.returncode}")
    finally:
        process.terminate()
        process.wait(timeout=30)


def _spent(process: psutil.Process) -> float:
    """CPU seconds of a process and of all its children, those that have ended included."""
    tree = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:4]) for each in tree)


def _memory(process: psutil.Process) -> float:
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 2**20


def _more_containers(stack: Stack, engine: Engine) -> None:
    """Sleepers of the stack's own project, up to ten containers in all."""
    label = f"com.docker.compose.project={stack.project}"
    for number in range(_CONTAINERS - len(stack.alive())):
        engine.docker(
            "run", "-d", "--name", f"{stack.project}-more-{number}", "--label", label,
            "--entrypoint", "sleep", "redis:7-alpine", "1000000",
        )  # fmt: skip


@contextmanager
def _sleepers(count: int) -> Iterator[None]:
    processes = [subprocess.Popen(["sleep", "1000000"]) for _ in range(max(0, count))]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def glances() -> str:
    """The command: that of the PATH, else one in an environment of its own, made once."""
    found = shutil.which("glances")
    if found:
        return found
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calm-bench" / "glances"
    if not (folder / "bin" / "glances").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", _GLANCES], check=True)
    return str(folder / "bin" / "glances")


def _unmeasured(stack: Stack, *, since: float) -> tuple[int, list[str]]:
    """How many snapshots came ``since``, and which fields of the contract the last one has no value for."""
    journal = Journal(stack.root / NAME, notice=print)
    try:
        samples = list(journal.samples(since=since))
    finally:
        journal.close()
    return len(samples), sorted(_nulls(samples[-1]))


def _nulls(snapshot: Mapping[str, Any]) -> Iterator[str]:
    for part, names in json.loads(_CONTRACT).items():
        for each in _parts(snapshot, part):
            yield from (f"{part}.{name}" for name in names if each.get(name) is None)


def _parts(snapshot: Mapping[str, Any], path: str) -> list[Mapping[str, Any]]:
    found: Any = snapshot
    for key in path.split("."):
        found = found[key]
    return found if isinstance(found, list) else [found]


_CONTRACT = """{
 "machine": ["cpu_count", "cpu_percent", "memory_bytes", "memory_available_bytes", "swap_used_bytes",
             "disk_free_bytes", "disk_percent", "processes"],
 "lmstudio.instances": ["root_pid", "created_at", "executable", "processes", "cpu_percent", "uss_bytes",
                        "swap_bytes", "busy"],
 "lmstudio.api": ["reachable", "port", "models_loaded"],
 "docker": ["reachable", "version"],
 "containers": ["name", "id", "state", "cpu_percent", "memory_bytes"],
 "endpoints": ["name", "url", "ok", "latency_ms"]
}"""
"""What every part of a snapshot has to have; the health of a container without a check, say, is not of it."""


def _shown(
    costs: Mapping[str, Cost], containers: int, processes: int, unmeasured: tuple[int, list[str]]
) -> str:
    ours = costs["calm watch"]
    rows = [
        (
            name,
            f"{cost.cpu_percent:.2f} %",
            f"{ours.cpu_percent / cost.cpu_percent:.2f}",
            f"{cost.memory_mib:.0f} MiB",
        )
        for name, cost in costs.items()
    ]
    head = (f"{SECONDS:.0f} s", "of one core", "calm's part of it", "memory")
    count, missing = unmeasured
    told = f"without a value: {', '.join(missing)}" if missing else "every field measured"
    return (
        f"{results.table(head, rows)}\n\n"
        f"{containers} containers ran on the engine and {processes} processes on the host; calm journalled "
        f"{count} snapshots, {told}. Aims: a third of Glances' processor time, half of `docker stats`', less "
        f"memory than Glances."
    )


if __name__ == "__main__":
    results.main("watching", __doc__, measure)
