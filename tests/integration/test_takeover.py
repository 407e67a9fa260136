"""A stack that was written by hand, as the report describes it, is taken over and nothing is lost."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import Build
from tests.integration.stack import CALM, Result, Stack

pytestmark = pytest.mark.engine

POSTGRES, REDIS = "old-postgres-Pw1", "another-secret"
"""One that looks like a password, and one that is made of plain words."""


def hand_written(stack: Stack) -> str:
    """The report's own file: passwords in it, open ports, initdb arguments, nginx, one unknown service."""
    name = stack.project
    return yaml.safe_dump(
        {
            "services": {
                "postgres": {
                    "image": "postgres:15-alpine",
                    "container_name": f"{name}-postgres",
                    "environment": {
                        "POSTGRES_USER": "agent_user",
                        "POSTGRES_DB": "agent_system",
                        "POSTGRES_PASSWORD": POSTGRES,
                    },
                    "command": ["postgres", "-c", "max_connections=100"],
                    "ports": [f"{stack.ports['postgres']}:5432"],
                    "volumes": ["postgres_data:/var/lib/postgresql/data"],
                },
                "redis": {
                    "image": "redis:7-alpine",
                    "container_name": f"{name}-redis",
                    "command": ["redis-server", "--appendonly", "yes", "--requirepass", REDIS],
                    "ports": [f"{stack.ports['redis']}:6379"],
                    "volumes": ["redis_data:/data"],
                },
                "nginx": {"image": "nginx:alpine", "container_name": f"{name}-nginx"},
                "mailer": {"image": "redis:7-alpine", "environment": {"KEEP": "this"}},
            },
            "volumes": {"postgres_data": None, "redis_data": None},
        }
    )


@pytest.fixture(scope="module")
def stack(build: Build) -> Stack:
    whole = build("takeover")
    folder = whole.folder / "stack"
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(hand_written(whole))
    whole.docker(
        "compose", "-p", f"{whole.project}_memory", "-f", str(folder / "docker-compose.yml"), "up", "-d"
    )
    # Over TCP: the server that fills a new volume listens on the socket alone, and ends again.
    ready = ("psql", "-h", "127.0.0.1", "-U", "agent_user", "-d", "agent_system", "-Atc", "SELECT 1")
    deadline = time.monotonic() + 60
    while whole.docker("exec", whole.name("postgres"), *ready, check=False) != "1":
        assert time.monotonic() < deadline, whole.docker("logs", whole.name("postgres"))
        time.sleep(0.2)
    whole.sql("CREATE TABLE kept (n int); INSERT INTO kept SELECT generate_series(1, 1000)")
    whole.docker(
        "exec", "-e", f"REDISCLI_AUTH={REDIS}", whole.name("redis"), "redis-cli", "SET", "kept", "yes"
    )
    whole.write(docker={"directory": str(folder)})
    return whole


def test_it_is_taken_over_and_nothing_is_lost(stack: Stack) -> None:
    volumes = set(stack.docker("volume", "ls", "-q", "--filter", f"name={stack.project}").split())
    mailer = stack.docker("ps", "-q", "--filter", f"name={stack.project}_memory-mailer")

    plan = stack.plan()
    assert plan.code == 2, plan.said
    listed = {item["id"]: item for item in plan.json()["hosts"][0]["resources"]}
    assert listed["service:nginx"]["action"] == "remove"
    assert POSTGRES not in plan.said
    assert REDIS not in plan.said
    assert "127.0.0.1" in plan.out

    stack.apply()
    assert stack.sql("SELECT count(*) FROM kept") == "1000"
    assert stack.redis("GET", "kept") == "yes"
    assert stack.secret("postgres_password") == POSTGRES
    assert stack.secret("redis_password") == REDIS
    assert stack.sql("SHOW max_connections") == "50"
    assert set(stack.docker("volume", "ls", "-q", "--filter", f"name={stack.project}").split()) == volumes
    assert stack.docker("ps", "-q", "--filter", f"name={stack.project}-nginx") == ""
    assert stack.docker("ps", "-q", "--filter", f"name={stack.project}_memory-mailer") == mailer, (
        "the unknown one runs on"
    )
    assert stack.plan().code == 0


def test_the_commands_of_the_host_find_it_under_its_old_project(stack: Stack) -> None:
    def calm(*arguments: str) -> Result:
        return stack.run([*CALM, *arguments], env={"CALM_ROOT": str(stack.root)})

    assert calm("check").code == 0, calm("check").said
    restarted = calm("restart", "redis")
    assert restarted.code == 0, restarted.said
    down = calm("down", "--skip-lmstudio")
    assert down.code == 0, down.said
    assert stack.inspect("redis")["State"]["Status"] == "exited"
    up = calm("up", "--skip-lmstudio")
    assert up.code == 0, up.said
    assert stack.inspect("redis")["State"]["Health"]["Status"] == "healthy"
    assert stack.redis("GET", "kept") == "yes"
    assert stack.plan().code == 0


def test_the_old_password_really_logs_in(stack: Stack) -> None:
    address = next(iter(stack.inspect("postgres")["NetworkSettings"]["Networks"].values()))["IPAddress"]
    script = f'PGPASSWORD="$(cat)" psql -h {address} -U agent_user -d agent_system -Atc "SELECT 1"'
    assert stack.docker("exec", "-i", stack.name("postgres"), "sh", "-c", script, text=POSTGRES) == "1"


def test_the_old_file_is_backed_up_and_closed(stack: Stack) -> None:
    backups = list((stack.root / "backups").glob("*docker-compose.yml*"))
    assert any(POSTGRES in path.read_text() for path in backups)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in backups)
    assert POSTGRES not in (stack.folder / "stack" / "docker-compose.yml").read_text()


def test_remove_gives_the_old_file_back(stack: Stack) -> None:
    volumes = set(stack.docker("volume", "ls", "-q", "--filter", f"name={stack.project}").split())
    result = stack.calm("remove", "--yes")
    assert result.code == 0, result.said
    assert (stack.folder / "stack" / "docker-compose.yml").read_text() == hand_written(stack)
    assert set(stack.docker("volume", "ls", "-q", "--filter", f"name={stack.project}").split()) == volumes
    assert stack.docker("ps", "-q", "--filter", f"name={stack.project}_memory-mailer") != ""
    assert POSTGRES not in result.said


def test_a_volume_of_another_major_is_refused(build: Build) -> None:
    stack = build("major")
    volume = f"{stack.project}_old"
    stack.docker("volume", "create", volume)
    stack.docker(
        "run", "--rm", "-v", f"{volume}:/data", "redis:7-alpine", "sh", "-c", "echo 12 > /data/PG_VERSION"
    )
    stack.write(docker={"volumes": {"postgres": volume}})
    plan = stack.plan()
    assert plan.code == 1, plan.said
    assert "12" in plan.out
    assert "15" in plan.out


def test_a_foreign_container_of_our_name_is_refused(build: Build) -> None:
    stack = build("foreign")
    stack.docker("run", "-d", "--name", stack.name("redis"), "redis:7-alpine")
    identity = json.loads(stack.docker("inspect", stack.name("redis")))[0]["Id"]
    result = stack.calm("apply", "--yes")
    assert result.code == 1, result.said
    assert stack.name("redis") in result.said
    assert json.loads(stack.docker("inspect", stack.name("redis")))[0]["Id"] == identity


def test_nothing_of_it_is_left_behind(stack: Stack) -> None:
    assert not list(Path(stack.root).rglob(".calm-*.tmp"))
