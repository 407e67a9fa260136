"""The rendered sizes survive inside the rendered limits, live; the report's own size does not."""

from __future__ import annotations

import json
import time

import pytest

from tests.integration.conftest import Build
from tests.integration.stack import Stack

pytestmark = pytest.mark.engine


def test_redis_survives_a_save_under_writes(build: Build) -> None:
    stack = build("sizer", docker={"redis": {"memory": "128M", "memory_reserved": "64M"}})
    stack.apply("--only", "service:redis")
    _fill(stack, stack.name("redis"), limit=128 << 20)
    state = stack.inspect("redis")["State"]
    assert state["Running"]
    assert not state["OOMKilled"]
    assert stack.inspect("redis")["RestartCount"] == 0
    assert int(stack.redis("DBSIZE").split()[-1]) > 10_000
    assert "evicted_keys:0" not in stack.redis("INFO", "stats")


def test_maxmemory_as_large_as_the_limit_is_killed(build: Build) -> None:
    """The report's own sizing: maxmemory equal to the limit."""
    stack = build("sizer-dies")
    name = f"{stack.project}-dies"
    stack.docker(
        *("run", "-d", "--name", name, "--memory", "128m", "--memory-swap", "128m", "redis:7-alpine"),
        *("redis-server", "--maxmemory", "128mb", "--maxmemory-policy", "allkeys-lru", "--save", ""),
    )
    _fill(stack, name, limit=128 << 20, password=False)
    state = json.loads(stack.docker("inspect", name))[0]["State"]
    assert state["OOMKilled"] or state["ExitCode"] == 137


def _fill(stack: Stack, name: str, *, limit: int, password: bool = True) -> None:
    """Write 400-byte values past ``limit``, with saves in between, until redis is full or dead."""
    login = 'export REDISCLI_AUTH="$(cat /run/secrets/redis_password)";' if password else ""
    script = (
        f'{login} redis-cli EVAL "for i=1,tonumber(ARGV[2]) do '
        "redis.call('SET', ARGV[1]..':'..i, string.rep('x', 400)) end\" 0 \"$1\" \"$2\" >/dev/null; "
        "redis-cli BGSAVE >/dev/null"
    )
    per_round, rounds = 20_000, int(limit * 2.2) // 400 // 20_000 + 1
    for number in range(rounds):
        stack.docker("exec", name, "sh", "-c", script, "sh", str(number), str(per_round), check=False)
        if stack.docker("inspect", "-f", "{{.State.Running}}", name) != "true":
            return
    time.sleep(1)


def test_postgres_survives_max_connections_sorts(build: Build) -> None:
    stack = build(
        "sizep", docker={"postgres": {"memory": "512M", "memory_reserved": "256M", "max_connections": 30}}
    )
    stack.apply("--only", "service:postgres")
    clients = int(stack.sql("SHOW max_connections")) - 5
    rows = "SELECT md5(i::text) m FROM generate_series(1,60000) i ORDER BY m"
    sort = f"SET statement_timeout='60s'; SELECT count(*) FROM ({rows}) s"
    script = f'for i in $(seq {clients}); do psql -U agent_user -d agent_system -Atqc "{sort}" & done; wait'
    answers = stack.docker("exec", stack.name("postgres"), "sh", "-c", script).split()
    assert answers == ["60000"] * clients
    state = stack.inspect("postgres")["State"]
    assert state["Running"]
    assert not state["OOMKilled"]
    assert stack.inspect("postgres")["RestartCount"] == 0
