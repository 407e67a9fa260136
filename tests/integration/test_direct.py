"""Redis and postgres asked over their published ports: real servers, and the same values as from within."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from calm.onhost import direct
from calm.onhost.direct import DirectError, Place
from calm.onhost.docker_api import Endpoint
from calm.onhost.docker_api import Engine as Asked
from tests.lab.engine import Engine
from tests.unit.onhost.pushed import probe

pytestmark = pytest.mark.engine

PASSWORDS = {"postgres_password": "pg-Passw0rd,=", "redis_password": "redis-Passw0rd \"'"}
USER = "agent"


@dataclass(kw_only=True)
class Published:
    """Servers whose ports this host publishes, and a root with their passwords."""

    engine: Engine
    root: Path
    postgres: str
    redis: str

    def keep(self, **passwords: str) -> None:
        """Let the host keep these passwords."""
        for name, password in (PASSWORDS | passwords).items():
            (self.root / "secrets" / name).write_text(password)

    def values(self) -> tuple[dict[str, Any], set[str]]:
        """The running values, and what Docker's events told meanwhile of commands in the containers."""
        running = {
            "postgres": {
                "container": self.postgres, "user": USER, "database": USER,
                "parameters": ["max_connections", "shared_buffers"],
            },
            "redis": {"container": self.redis, "parameters": ["maxmemory", "Maxmemory-Policy", "no-such"]},
        }  # fmt: skip
        since = time.time()
        docker = {"enabled": "auto", "names": [self.postgres, self.redis], "running": running}
        answer = probe(self.root, self.engine.env, docker=docker)
        events = self.engine.lines(
            "events", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}",
            "--filter", "event=exec_die", "--format", "{{json .}}",
        )  # fmt: skip
        shown = json.dumps(answer)
        assert [one for one in PASSWORDS.values() if json.dumps(one)[1:-1] in shown] == []
        asked = {json.loads(event)["Actor"]["Attributes"]["name"] for event in events}
        return answer["running"], asked & {self.postgres, self.redis}


@pytest.fixture(scope="module")
def published(
    engine: Engine, unique_name: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    root = tmp_path_factory.mktemp("direct") / "calm"
    made = Published(engine=engine, root=root, postgres=unique_name("pg"), redis=unique_name("redis"))
    root.mkdir()
    (root / "secrets").mkdir(mode=0o700)
    (root / "redis.conf").write_text(
        'requirepass "{}"\n'.format(PASSWORDS["redis_password"].replace('"', '\\"'))
    )
    (root / "redis.conf").chmod(0o644)
    engine.docker(
        "run", "-d", "--name", made.postgres, "-p", "127.0.0.1::5432", "-e", f"POSTGRES_USER={USER}",
        "-e", f"POSTGRES_PASSWORD={PASSWORDS['postgres_password']}", "postgres:15-alpine",
    )  # fmt: skip
    engine.docker(
        "run", "-d", "--name", made.redis, "-p", "6379", "-v", f"{root}/redis.conf:/redis.conf:ro",
        "redis:7-alpine", "redis-server", "/redis.conf",
    )  # fmt: skip
    try:
        made.keep()
        deadline = time.monotonic() + 60
        while made.values()[1] and time.monotonic() < deadline:
            time.sleep(0.2)
        yield made
    finally:
        engine.docker("rm", "-fv", made.postgres, made.redis, check=False)


def test_the_same_values_as_by_commands_and_none_is_run(published: Published) -> None:
    direct_values, asked = published.values()
    published.keep(postgres_password="", redis_password="wrong")
    from_within, asked_then = published.values()
    published.keep()

    assert asked == set()
    assert published.postgres in asked_then
    assert direct_values["postgres"]["has_password"] is direct_values["redis"]["has_password"] is True
    assert from_within["postgres"].pop("has_password") is None
    assert direct_values["postgres"] == from_within["postgres"] | {"has_password": True}
    assert direct_values["postgres"]["parameters"]["max_connections"] == "100"
    assert direct_values["redis"]["parameters"] == {
        "maxmemory": "0", "Maxmemory-Policy": "noeviction", "no-such": None
    }  # fmt: skip


def test_a_password_of_another_kind_is_left_to_the_command(published: Published) -> None:
    def sql(statement: str) -> None:
        published.engine.docker("exec", published.postgres, "psql", "-XAtq", "-U", USER, "-c", statement)

    def change(encryption: str) -> None:
        quoted = PASSWORDS["postgres_password"]
        sql(f"SET password_encryption = '{encryption}'; ALTER ROLE {USER} PASSWORD '{quoted}'")

    change("md5")
    values, asked = published.values()
    published.keep(postgres_password="another")
    with_another, _ = published.values()
    published.keep()
    change("scram-sha-256")

    assert published.postgres in asked
    assert values["postgres"]["parameters"]["max_connections"] == "100"
    assert values["postgres"]["has_password"] is True
    assert with_another["postgres"]["has_password"] is False
    assert published.values()[1] == set()


def test_another_server_on_the_port_is_not_believed(published: Published) -> None:
    def elsewhere(name: str, port: int) -> Place:
        asked = Asked(Endpoint("unix", published.engine.socket))
        inspected = asked.get(f"/containers/{name}/json")
        return direct.place(asked, inspected, port)._replace(own=frozenset({"172.30.99.99"}))

    redis = elsewhere(published.redis, direct.REDIS_PORT)
    with pytest.raises(DirectError, match="another server"):
        direct.redis(redis, PASSWORDS["redis_password"], ["maxmemory"])

    postgres = elsewhere(published.postgres, direct.POSTGRES_PORT)
    with pytest.raises(DirectError, match="another server"):
        direct.postgres(postgres, USER, USER, PASSWORDS["postgres_password"], "SELECT 1")


def test_a_statement_that_fails_or_selects_nothing_is_an_error_of_this_way(published: Published) -> None:
    asked = Asked(Endpoint("unix", published.engine.socket))
    place = direct.place(asked, asked.get(f"/containers/{published.postgres}/json"), direct.POSTGRES_PORT)
    for statement in ("SELECT nonsense", "SELECT 1 WHERE false", "SELECT NULL::text", ""):
        with pytest.raises(DirectError):
            direct.postgres(place, USER, USER, PASSWORDS["postgres_password"], statement)
