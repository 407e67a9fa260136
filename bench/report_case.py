"""The source report's own case, before and after: ``python -m bench.report_case [--write]``.

Before: a stack written by hand, with postgres and redis without limits and nginx, prometheus and grafana
beside them; LM Studio's stand-in with two duplicates, one of which spins. Then ``calm apply`` once and
``calm heal``. Measured for a minute before and after, by the kernel's own counters. Prometheus and grafana
are stand-ins, too: small programs that only use what such programs use when nobody looks at them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import psutil
import yaml

from bench import lab, results
from calm.health import cgroups
from calm.health.processes import memory
from tests.integration.stack import CALM, Stack
from tests.lab.lmstudio import LMStudio, wait_until

SECONDS = 60.0
_KEYS, _VALUE = 300_000, "x" * 1000
_MOST_HEALS = 4
_STANDIN = (
    "import os, time; hoard = bytearray(os.urandom(4096)) * 25600\n"
    "while True: end = time.monotonic() + 0.05; [None for _ in iter(lambda: time.monotonic() > end, True)]; "
    "time.sleep(0.45)"
)
"""A tenth of a core and 100 MiB, about what prometheus and grafana take with a handful of targets."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One minute: CPU in percent of one core, memory in MiB."""

    studio_cpu: float
    studio_memory: float
    instances: int
    processes: int
    stack_cpu: float
    stack_memory: float
    containers: int


def measure() -> str:
    """Both minutes, as a table."""
    with ExitStack() as held:
        engine = held.enter_context(lab.lab_engine())
        stack = held.enter_context(lab.stack(engine, "case"))
        studio = held.enter_context(LMStudio.install(stack.home))
        _as_it_was(stack, studio)
        before = _figures(stack, studio)
        stack.write(
            docker={"directory": str(stack.folder / "stack")},
            lmstudio={"server": {"port": studio.port}},
            healing={"cpu_percent": 20},
        )
        began = time.monotonic()
        stack.apply()
        applied, heals = time.monotonic() - began, _healed(stack)
        after = _figures(stack, studio)
        serving = _serves(studio)
    return _shown(before, after, applied, heals, serving=serving)


def _as_it_was(stack: Stack, studio: LMStudio) -> None:
    folder = stack.folder / "stack"
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(yaml.safe_dump(hand_written(stack)))
    stack.docker("compose", "-p", stack.project, "-f", str(folder / "docker-compose.yml"), "up", "-d")
    wait_until(lambda: _accepts(stack), "postgres does not come up", timeout=60)
    fill = "".join(f"SET session:{number} {_VALUE}\r\n" for number in range(_KEYS))
    argv = ("exec", "-i", stack.name("redis"), "redis-cli", "--no-auth-warning", "-a", "report", "--pipe")
    stack.docker(*argv, text=fill)
    studio.start()
    studio.start()
    studio.start().control(spin="root")


def hand_written(stack: Stack) -> dict[str, object]:
    """The report's file as it was."""
    name = stack.project
    standin = {"image": "python:3.12-slim", "command": ["python3", "-c", _STANDIN]}
    return {
        "services": {
            "postgres": {
                "image": "postgres:15-alpine",
                "container_name": f"{name}-postgres",
                "environment": {
                    "POSTGRES_USER": "agent_user",
                    "POSTGRES_DB": "agent_system",
                    "POSTGRES_PASSWORD": "report",
                },
                "command": ["postgres", "-c", "max_connections=100"],
                "ports": [f"{stack.ports['postgres']}:5432"],
                "volumes": ["postgres_data:/var/lib/postgresql/data"],
            },
            "redis": {
                "image": "redis:7-alpine",
                "container_name": f"{name}-redis",
                "command": ["redis-server", "--appendonly", "yes", "--requirepass", "report"],
                "ports": [f"{stack.ports['redis']}:6379"],
                "volumes": ["redis_data:/data"],
            },
            "agent-api": {
                "image": "calm-test/agent-api",
                "container_name": f"{name}-api",
                "environment": {
                    "LOG_LEVEL": "DEBUG",
                    "DATABASE_HOST": "postgres",
                    "DATABASE_USER": "agent_user",
                    "DATABASE_NAME": "agent_system",
                    "DATABASE_POOL_SIZE": "20",
                    "HEALTH_CHECK_INTERVAL": "30",
                    "REDIS_HOST": "redis",
                    "POSTGRES_PASSWORD": "report",
                    "REDIS_PASSWORD": "report",
                    "JWT_SECRET": "report",
                },
                "ports": [f"{stack.ports['agent-api']}:5000"],
                "restart": "unless-stopped",
            },
            "nginx": {"image": "nginx:alpine", "container_name": f"{name}-nginx"},
            "prometheus": {**standin, "container_name": f"{name}-prometheus"},
            "grafana": {**standin, "container_name": f"{name}-grafana"},
        },
        "volumes": {"postgres_data": None, "redis_data": None},
    }


def _accepts(stack: Stack) -> bool:
    argv = (
        "exec",
        stack.name("postgres"),
        "psql",
        "-U",
        "agent_user",
        "-d",
        "agent_system",
        "-Atc",
        "SELECT 1",
    )
    return stack.docker(*argv, check=False) == "1"


def _healed(stack: Stack) -> list[str]:
    """Run ``calm heal`` until it has nothing left to do; what each run did. One act at a time is the rule."""
    settings, said = str(stack.root / "settings.json"), []
    for _ in range(_MOST_HEALS):
        done = stack.run([*CALM, "heal", "--settings", settings, "--json"], timeout=400)
        remedies = json.loads(done.out)["remedies"]
        said += [f"{each['action']} {each['target'].partition(':')[0]} {each['result']}" for each in remedies]
        if not remedies:
            break
    return said


def _figures(stack: Stack, studio: LMStudio) -> Figures:
    containers = _folders(stack)
    studio_before, stack_before, began = _spent(studio.pids), _used(containers), time.monotonic()
    time.sleep(SECONDS)
    span, pids = time.monotonic() - began, studio.pids
    studio_after, stack_after = _spent(pids), _used(containers)
    spent = sum(seconds - studio_before.get(pid, 0.0) for pid, seconds in studio_after.items())
    own = [memory(psutil.Process(pid)).uss_bytes or 0 for pid in pids]
    return Figures(
        studio_cpu=100 * spent / span,
        studio_memory=sum(own) / 2**20,
        instances=len(studio.running),
        processes=len(pids),
        stack_cpu=100 * (stack_after[0] - stack_before[0]) / span,
        stack_memory=stack_after[1] / 2**20,
        containers=len(containers),
    )


def _spent(pids: Iterable[int]) -> dict[int, float]:
    return {pid: sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids}


def _folders(stack: Stack) -> list[object]:
    """The kernel's folders of each running container of the project."""
    rows = stack.docker("ps", "-q", "--no-trunc", "--filter", f"name={stack.project}-").split()
    pids = [json.loads(stack.docker("inspect", row))[0]["State"]["Pid"] for row in rows]
    return [cgroups.folders(pid, row) for pid, row in zip(pids, rows, strict=True)]


def _used(containers: list[object]) -> tuple[float, int]:
    """CPU seconds and bytes of all of them."""
    usages = [cgroups.read(folders) for folders in containers]  # type: ignore[arg-type]
    known = [usage for usage in usages if usage is not None]
    return sum(usage.cpu_seconds or 0.0 for usage in known), sum(usage.memory_bytes or 0 for usage in known)


def _serves(studio: LMStudio) -> bool:
    import httpx

    return bool(httpx.get(f"{studio.url}/lmstudio-greeting", timeout=5).json() == {"lmstudio": True})


def _shown(before: Figures, after: Figures, applied: float, heals: list[str], *, serving: bool) -> str:
    rows = [
        ("LM Studio: instances", str(before.instances), str(after.instances), "1"),
        ("LM Studio: processes", str(before.processes), str(after.processes), ""),
        ("LM Studio, idle: CPU", f"{before.studio_cpu:.1f} %", f"{after.studio_cpu:.1f} %", "< 20 %"),
        ("LM Studio: memory", f"{before.studio_memory:.0f} MiB", f"{after.studio_memory:.0f} MiB", ""),
        ("Stack: containers", str(before.containers), str(after.containers), ""),
        ("Stack: CPU", f"{before.stack_cpu:.1f} %", f"{after.stack_cpu:.1f} %", "< 20 %"),
        (
            "Stack: memory",
            f"{before.stack_memory:.0f} MiB",
            f"{after.stack_memory:.0f} MiB",
            f"{before.stack_memory / 2:.0f} MiB",
        ),
    ]
    head = (f"{SECONDS:.0f} s each", "before", "after", "aim")
    answers = "the one that is left answers" if serving else "**nothing answers on its port**"
    return (
        f"{results.table(head, rows)}\n\n"
        f"CPU in percent of one core. `calm apply` took {applied:.0f} s; `calm heal` did: "
        f"{', '.join(heals) or 'nothing'}; of LM Studio {answers}."
    )


if __name__ == "__main__":
    results.main("report_case", __doc__, measure)
