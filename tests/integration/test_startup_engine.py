"""`calm up` on a host whose Docker Engine was killed or stopped: it is started, and the stack with it."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.started import REDIS
from tests.lab import hosts, images
from tests.lab.engine import Engine

pytestmark = [pytest.mark.host, pytest.mark.full]

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("click", "pydantic", "pydantic_core", "annotated_types", "typing_extensions.py", "typing_inspection"),
    *("yaml", "httpx", "httpcore", "anyio", "idna", "certifi", "h11", "psutil"),
)
"""What `calm up` imports on a host."""


@pytest.fixture(scope="module")
def host(engine: Engine, host_key: Any, unique_name: Callable[[str], str]) -> Iterator[hosts.Host]:
    """A host with an engine of its own, calm, and a stack of one service."""
    name = unique_name("up")
    try:
        started = hosts.start(engine, name, key=host_key, preload=(images.REDIS,))
        _install(started)
        yield started
    finally:
        hosts.destroy(engine, name)


def _install(host: hosts.Host) -> None:
    site = sysconfig.get_paths()["purelib"]
    there = [package for package in PACKAGES if (Path(site) / package).exists()]
    tar = ["tar", "-c", "-C", site, *there, "-C", str(CHECKOUT), "calm"]
    packed = subprocess.run(tar, check=True, capture_output=True).stdout
    copy = ["docker", "exec", "-i", host.name, "sh", "-c", "mkdir -p /opt/calm && tar -x -C /opt/calm"]
    subprocess.run(
        copy, check=True, input=packed, env={"PATH": "/usr/local/bin:/usr/bin:/bin", **host.engine.env}
    )
    settings = {"root": "/root/calm", "docker": {"project": "one", "agent_api": {"enabled": False}},
                "lmstudio": {"enabled": False}}  # fmt: skip
    _put(host, "/root/calm/settings.json", json.dumps(settings))
    _put(host, "/root/calm/docker/docker-compose.yml", yaml.safe_dump({"services": {"redis": dict(REDIS)}}))


def _put(host: hosts.Host, path: str, text: str) -> None:
    host.run("sh", "-c", f"mkdir -p {Path(path).parent} && cat > {path}", stdin=text)


def _up(host: hosts.Host) -> Any:
    script = "import sys; from calm.cli.main import run; sys.exit(run(sys.argv[1:]))"
    version = (
        "import importlib.metadata as m; m.version = lambda name: '0'; "  # it is not installed as a package
    )
    argv = ["env", "PYTHONPATH=/opt/calm", "python3", "-c", version + script, "up", "--json"]
    done = host.run(*argv, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {step["step"]: step["status"] for step in json.loads(done.stdout)["steps"]}


def test_a_killed_engine_comes_back_and_the_stack_with_it(host: hosts.Host) -> None:
    assert _up(host)["redis"] == "started"
    pid = host.run("systemctl", "show", "docker", "-p", "MainPID", "--value").stdout.strip()
    host.run("kill", "-9", pid)
    found = _up(host)
    assert set(found) == {"engine", "containers", "redis"}
    assert host.docker("inspect", "-f", "{{.State.Health.Status}}", "one-redis-1").stdout.strip() == "healthy"


def test_a_stopped_engine_is_started(host: hosts.Host) -> None:
    host.run("systemctl", "stop", "docker.socket", "docker.service")
    assert _up(host)["engine"] == "started"
    assert host.docker("inspect", "-f", "{{.State.Health.Status}}", "one-redis-1").stdout.strip() == "healthy"
