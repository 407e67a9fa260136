"""The agent over SSH: wheels sent along, and what `calm status` then knows of a host."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
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
    """Three bare hosts of which one has no way to an index, in an inventory with agent and schedules."""
    names = {name: unique_name(name) for name in ("desk-1", "desk-2", "desk-3")}
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
        fleet.add("desk-3", machines["desk-3"].address)
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
    one, two, _ = found
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
    _send(host, CHECKOUT, "/srv/lab", ["tests/__init__.py", "tests/lab"])
    python = "/root/calm/agent/venv/bin/python"
    host.engine.docker("exec", "-d", "-w", "/srv/lab", host.name, python, "-c", STUDIO)
    there = ("test", "-e", "/tmp/studio")
    wait_until(lambda: host.run(*there, check=False).returncode == 0, "the stand-in did not start", 30)


def _send(host: hosts.Host, folder: Path, to: str, parts: Iterable[str]) -> None:
    """Copy some of a folder to a host, past SSH."""
    archive = host.key.parent / "sent.tar"
    with tarfile.open(archive, mode="w") as tar:
        for part in parts:
            tar.add(folder / part, arcname=part, filter=_without_caches)
    host.run("mkdir", "-p", to)
    host.engine.docker("cp", str(archive), f"{host.name}:/srv/sent.tar")
    host.run("tar", "-C", to, "-xf", "/srv/sent.tar")


def _without_caches(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in info.name else info


def test_a_timer_on_the_host_pulls(agents: Fleet, all_wheels: Path) -> None:
    """From git alone, with what Debian brings along and a folder of wheels in place of an index."""
    host = agents.whole["desk-3"]
    host.run("apt-get", "update", "-q")
    host.run("apt-get", "install", "-q", "-y", "--no-install-recommends", "git", "make")
    _send(host, all_wheels, "/srv/wheels", [each.name for each in all_wheels.glob("*.whl")])
    _write(host, "/etc/pip.conf", "[global]\nno-index = true\nfind-links = /srv/wheels\n")
    _write(host, "/etc/uv/uv.toml", 'no-index = true\nfind-links = ["/srv/wheels"]\n')
    _send(host, CHECKOUT, "/srv/calm", _tracked())
    pulled = {"calendar": "*-*-* *:*:0/20", "run": "pull --from /srv/calm --jitter 2"}
    agents.write(schedules={"jobs": {"pull": pulled}})
    its_own = agents.settings | {"llm": {"request_timeout": 23}}
    its_own["agent"] = {"enabled": True, "wheelhouse": "/srv/wheels"}
    _write(host, "/srv/calm/inventories/local.py", f"hosts = [('@local', {{'calm': {its_own!r}}})]\n")
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for words in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-q", "-m", "settings")):
        host.run("git", "-C", "/srv/calm", *words)

    agents.apply("--limit", "desk-3")
    report = ("cat", "/root/calm/outputs/pull.json")
    wait_until(lambda: host.run(*report, check=False).returncode == 0, "no pull has come to its end", 240)

    said = json.loads(host.run(*report).stdout)
    shown = host.run("journalctl", "-u", "calm-pull.service", "--no-pager", check=False).stdout[-3000:]
    assert (said["code"], said["error"]) == (0, None), f"{said}\n{shown}"
    assert said["commit"] == host.run("git", "-C", "/srv/calm", "rev-parse", "HEAD").stdout.strip()
    assert "request_timeout: 23" in host.run("cat", "/root/calm/app.yaml").stdout
    row = agents.rows("status", "--limit", "desk-3", code=2)["desk-3"]
    assert row["pull"]["code"] == 0
    assert row["schedules"]["pull"]["last_result"] == "success"


@pytest.fixture(scope="module")
def all_wheels(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a checkout needs to make its own environment, uv among it."""
    folder = tmp_path_factory.mktemp("all-wheels")
    pip = [str(wheels / "venv" / "bin" / "pip"), "download", "--quiet", "--only-binary=:all:", "--dest"]
    locked = ["--require-hashes", "-r", str(CHECKOUT / "requirements.lock")]
    for wanted in (locked, ["uv"]):
        subprocess.run([*pip, str(folder), *wanted], check=True, timeout=300)
    return folder


def _tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _write(host: hosts.Host, path: str, text: str) -> None:
    host.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path, stdin=text)
