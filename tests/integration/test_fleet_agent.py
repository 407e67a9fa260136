"""The agent over SSH: wheels sent along, and what `calm status` then knows of a host."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from calm.release import REQUIREMENTS
from tests.fleet.machines import Fleet, counted, start_all
from tests.integration.stack import CHECKOUT
from tests.lab import hosts
from tests.lab.engine import Engine, wait_until

pytestmark = [pytest.mark.host, pytest.mark.full]

STUDIO = """
import time
from pathlib import Path
from tests.lab.lmstudio.install import LMStudio
with LMStudio.install(Path("/root"), port=1234) as studio:
    studio.start(loaded=["qwen/qwen3-4b"])
    Path("/tmp/studio").touch()
    time.sleep(600)
"""
"""Runs on the host, in the agent's own environment, since the stand-in wants psutil."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the agent depends on, as the how-to says to fill one."""
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    download = [str(folder / "venv" / "bin" / "pip"), "download", "--quiet", "--only-binary=:all:"]
    wanted = ["--require-hashes", "-r", str(CHECKOUT / REQUIREMENTS), "--dest", str(folder)]
    subprocess.run([*download, *wanted], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def agents(
    engine: Engine,
    host_key: Path,
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
    wheels: Path,
) -> Iterator[Fleet]:
    """Two bare hosts of which one has no way to an index, in an inventory with agent and schedules."""
    names = {name: unique_name(name) for name in ("desk-1", "desk-2")}
    try:
        machines = start_all(engine, names, key=host_key)
        machines["desk-2"].run("ip", "route", "del", "default")
        fleet = Fleet(folder=tmp_path_factory.mktemp("agents"), key=host_key, whole=machines)
        fleet.settings["agent"] = {"enabled": True, "wheelhouse": str(wheels)}
        fleet.settings["schedules"] = {
            "backend": "auto",
            "jobs": {"often": {"calendar": "*-*-* *:*:0/20", "run": "snapshot"}},
        }
        fleet.settings["healing"] = {"rules": {"container-stopped": "report"}}
        fleet.add("desk-1", machines["desk-1"].address)
        fleet.add("desk-2", machines["desk-2"].address, user="ops", _sudo=True)
        yield fleet
    finally:
        for name in names.values():
            hosts.destroy(engine, name)


def test_an_agent_and_its_schedules_get_onto_bare_hosts(agents: Fleet) -> None:
    rows = agents.apply()
    assert {row["status"] for row in rows.values()} == {"converged"}
    for host in agents.whole.values():
        host.run("systemctl", "is-active", "calm-watch.service", "calm-prune.timer")
    assert agents.pending() == {}


def test_status_tells_all_of_a_host_for_one_probe_and_one_snapshot(agents: Fleet) -> None:
    host = agents.whole["desk-1"]
    _studio(host)
    fired = ("systemctl", "show", "calm-often.timer", "-p", "LastTriggerUSec", "--value")
    wait_until(lambda: host.run(*fired).stdout.strip() != "", "the timer did not fire", 60)
    host.docker("stop", "agent-system-redis")
    host.run("/root/calm/agent/venv/bin/calm", "heal", check=False)

    found: list[dict[str, object]] = []
    cost = counted(host, lambda: found.extend(agents.rows("status", code=2).values()))
    one, two = found
    assert one["services"] == {"postgres": "healthy", "redis": "exited", "agent-api": "healthy"}
    assert "service:redis" in str(one["drift"])
    assert one["lmstudio"] == {"version": "0.4.7", "running": True, "models": ["qwen/qwen3-4b"]}
    assert "container:agent-system-redis" in str(one["findings"])
    assert one["agent"] is not None
    assert one["agent"]["current"] is True  # type: ignore[index]
    runs = one["schedules"]
    assert isinstance(runs, dict)
    assert runs["often"]["last_run"], runs
    assert (runs["often"]["last_result"], runs["watch"]["last_result"]) == ("success", "success")
    assert cost == 2
    assert (two["lmstudio"], two["findings"]) == (None, [])
    said = agents.calm("status").out
    assert "0.4.7 running qwen/qwen3-4b" in said
    assert "container-stopped container:agent-system-redis" in said


def _studio(host: hosts.Host) -> None:
    """Start an LM Studio stand-in on a host."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for part in ("tests/__init__.py", "tests/lab"):
            tar.add(CHECKOUT / part, arcname=part, filter=_without_caches)
    archive = host.key.parent / "lab.tar"
    archive.write_bytes(packed.getvalue())
    host.run("mkdir", "-p", "/srv/lab")
    host.engine.docker("cp", str(archive), f"{host.name}:/srv/lab/lab.tar")
    host.run("tar", "-C", "/srv/lab", "-xf", "/srv/lab/lab.tar")
    python = "/root/calm/agent/venv/bin/python"
    host.engine.docker("exec", "-d", "-w", "/srv/lab", host.name, python, "-c", STUDIO)
    there = ("test", "-e", "/tmp/studio")
    wait_until(lambda: host.run(*there, check=False).returncode == 0, "the stand-in did not start", 30)


def _without_caches(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in info.name else info
