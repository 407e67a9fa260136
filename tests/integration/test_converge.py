"""From nothing to a healthy stack, twice; with an engine and without; by calm and by plain pyinfra."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from calm.onhost import lock
from calm.onhost.files import Root
from tests.integration.conftest import Build
from tests.integration.stack import CALM, CHECKOUT, Result, Stack

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def stack(build: Build) -> Stack:
    whole = build("converge", docker={"agent_api": {"image": None}})
    whole.apply()
    return whole


def test_the_stack_is_healthy_within_its_limits(stack: Stack) -> None:
    limits = {"postgres": 1 << 30, "redis": 512 << 20, "agent-api": 2 << 30}
    for service, memory in limits.items():
        found = stack.inspect(service)
        assert found["State"]["Health"]["Status"] == "healthy", service
        assert found["HostConfig"]["Memory"] == found["HostConfig"]["MemorySwap"] == memory, service
        assert found["HostConfig"]["PidsLimit"] == 200, service
        assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped", service
        assert all(
            port["HostIp"] == "127.0.0.1"
            for ports in found["NetworkSettings"]["Ports"].values()
            for port in ports or []
        ), service


def test_the_tuned_values_hold(stack: Stack) -> None:
    assert stack.sql("SHOW max_connections") == "50"
    assert stack.redis("CONFIG", "GET", "maxmemory-policy").split()[-1] == "allkeys-lru"
    assert 0 < int(stack.redis("CONFIG", "GET", "maxmemory").split()[-1]) < 512 << 20


def test_a_second_apply_changes_nothing(stack: Stack) -> None:
    before, files = stack.alive(), stack.files()
    result = stack.apply()
    assert "0 changed" in result.out
    assert stack.alive() == before
    assert stack.files() == files


def test_plain_pyinfra_finds_nothing_to_do(stack: Stack) -> None:
    pyinfra = str(Path(sys.executable).parent / "pyinfra")
    before = stack.alive()
    result = stack.run([pyinfra, "-y", "-vv", "--diff", str(stack.inventory), "deploy.py"])
    assert result.code == 0, result.said
    assert stack.alive() == before
    for name in ("postgres_password", "redis_password", "jwt_secret"):
        assert stack.secret(name) not in result.said


def test_plain_pyinfra_mends_drift(stack: Stack) -> None:
    (stack.root / "docker" / "redis.conf").write_text("# gone\n")
    pyinfra = str(Path(sys.executable).parent / "pyinfra")
    result = stack.run([pyinfra, "-y", str(stack.inventory), "deploy.py"])
    assert result.code == 0, result.said
    assert stack.plan().code == 0


def test_secrets_are_guarded_by_their_folder(stack: Stack) -> None:
    folder = stack.root / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len({stack.secret(name) for name in ("postgres_password", "redis_password", "jwt_secret")}) == 3


def test_a_changed_setting_and_a_changed_host_are_told_apart(stack: Stack) -> None:
    stack.docker("update", "--cpus", "1.5", stack.name("redis"))
    stack.write(docker={"postgres": {"cpus": 0.9}})
    pending = stack.pending()
    assert pending["service:redis"]["origin"] == "host"
    assert pending["service:postgres"]["origin"] == "settings"
    before = stack.alive()
    stack.apply()
    assert stack.alive() == before, "limits are changed without a restart"


def test_rollback_goes_one_generation_back(stack: Stack) -> None:
    stack.write(docker={"postgres": {"cpus": 0.8}})
    stack.apply()
    result = stack.calm("rollback", "--yes")
    assert result.code == 0, result.said
    assert stack.inspect("postgres")["HostConfig"]["NanoCpus"] == 900_000_000


def test_rotating_a_secret_is_a_setting(stack: Stack) -> None:
    old = {name: stack.secret(name) for name in ("postgres_password", "redis_password")}
    stack.apply()
    stack.write(secrets={"rotate": {"redis_password": 1, "postgres_password": 1}})
    plan = stack.plan()
    assert plan.code == 2
    result = stack.apply("--json")
    new = {name: stack.secret(name) for name in old}
    assert all(old[name] != new[name] for name in old)
    for value in (*old.values(), *new.values()):
        assert value not in plan.said + result.said
    assert stack.redis("PING") == "PONG"
    health = stack.docker("exec", stack.name("agent-api"), "python", "-c", _HEALTH)
    assert json.loads(health)["status"] == "healthy"
    again = stack.plan()
    assert again.code == 0, again.out


_HEALTH = (
    "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:5000/api/health').read().decode())"
)


def test_two_applies_at_once_do_not_mix(stack: Stack) -> None:
    import subprocess

    stack.docker("stop", stack.name("redis"))
    argv = [*CALM, "apply", str(stack.inventory), "--yes"]
    runs = [
        subprocess.Popen(
            argv,
            cwd=CHECKOUT,
            env=stack.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [run.communicate(timeout=200)[0] for run in runs]
    assert 0 in {run.returncode for run in runs}, said
    for run, text in zip(runs, said, strict=True):
        assert run.returncode == 0 or "lock" in text, text
    assert stack.plan().code == 0


def test_unlock_takes_nothing_from_whoever_is_at_work(stack: Stack) -> None:
    assert stack.calm("unlock", "--yes").out == "@local: not locked\n"
    with lock.working(Root(str(stack.root))):
        result = stack.calm("unlock", "--yes")
    assert result.code == 1, result.said
    assert "is at work there right now" in result.out
    assert "wait for that step to end" in result.err


def test_without_an_engine_everything_else_is_rendered(build: Build) -> None:
    stack = build("bare")
    result = _without_docker(stack, "apply", "--yes")
    assert result.code == 0, result.said
    assert "left out: service:redis" in result.out
    assert (stack.root / "docker" / "docker-compose.yml").is_file()
    assert (stack.root / "app.yaml").is_file()
    assert _without_docker(stack, "plan").code == 0


def _without_docker(stack: Stack, command: str, *arguments: str) -> Result:
    """Run calm where no docker command can be run and no engine is configured: in mounts of its own."""
    hide = "for docker in /usr/bin/docker /usr/local/bin/docker /bin/docker; do "
    hide += '[ ! -e "$docker" ] || mount --bind /dev/null "$docker"; done; exec "$@"'
    argv = [*CALM, command, str(stack.inventory), *arguments]
    return stack.run(["unshare", "--mount", "sh", "-c", hide, "sh", *argv], env={"DOCKER_HOST": ""})


def test_remove_keeps_volumes_and_secrets(stack: Stack) -> None:
    volumes = _volumes(stack)
    secrets = stack.secret("postgres_password")
    assert _networks(stack)
    result = stack.calm("remove", "--yes")
    assert result.code == 0, result.said
    assert "network:" in result.out
    assert not _networks(stack)
    assert stack.alive() == {}
    assert _volumes(stack) == volumes
    assert stack.secret("postgres_password") == secrets
    assert not (stack.root / "docker" / "docker-compose.yml").exists()


def _networks(stack: Stack) -> set[str]:
    return set(stack.docker("network", "ls", "-q", "--filter", f"name={stack.project}").split())


def _volumes(stack: Stack) -> set[str]:
    return set(stack.docker("volume", "ls", "-q", "--filter", f"name={stack.project}").split())
